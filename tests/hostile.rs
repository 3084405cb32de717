//! What hostile callers of the C ABI cannot do: each input of `fuzz/corpus/c_abi`, given to each function, gets an answer. `make fuzz` goes on
//! from there.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../fuzz/c_abi.rs"]
mod c_abi;

use std::fs;
use std::path::Path;

#[test]
fn each_function_answers_whatever_it_is_given() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/c_abi");
    let inputs: Vec<Vec<u8>> = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() >= 5);
    for input in inputs {
        for function in 0..=u8::MAX >> 3 {
            let mut bytes = input.clone();
            bytes[0] = function;
            c_abi::c_abi(&bytes);
            // Cut short anywhere, and with a byte of its own in each place.
            for at in 1..bytes.len() {
                c_abi::c_abi(&bytes[..at]);
                let mut other = bytes.clone();
                other[at] ^= 1 << (at % 8);
                c_abi::c_abi(&other);
            }
        }
    }
}
