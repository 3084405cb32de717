module example.com/take-lock

go 1.26.5

require github.com/atlock/atlock/go v0.1.0

// A program of your own has no such line.
replace github.com/atlock/atlock/go => ../../go
