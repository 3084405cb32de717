#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atlock::fuzzing::run("journal", bytes));
