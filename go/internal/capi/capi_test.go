package capi

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

// Every status of the header has its Go constant and name: a code that is missing here would reach users as a number.
func TestEveryStatusHasAName(t *testing.T) {
	header, err := os.ReadFile("../../../include/atlock.h")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s)#define ATLOCK_OK 0.*?#define ATLOCK_EXPECT_ANY`).Find(header)
	statuses := regexp.MustCompile(`#define (ATLOCK_[A-Z_]+) (\d+)\n`).FindAllSubmatch(block, -1)
	if len(statuses) < 2 {
		t.Fatal("no statuses found in the header")
	}
	for _, status := range statuses[1:] {
		number, err := strconv.Atoi(string(status[2]))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := names[Code(number)]; !ok {
			t.Errorf("%s = %d has no name in error.go", status[1], number)
		}
	}
	if len(names) != len(statuses)-1 {
		t.Errorf("error.go names %d codes, the header %d", len(names), len(statuses)-1)
	}
}
