//! Fuzzes `understudy_fuzz::thrift`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| understudy_fuzz::thrift(data));
