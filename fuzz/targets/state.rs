//! Fuzzes `understudy_fuzz::state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::state(data));
