//! Any bytes as the message of each call.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| currant_broker::rpc::fuzz::requests(bytes));
