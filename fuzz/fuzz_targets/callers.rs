//! Any text as a token's secret and as a pattern of queues: what is read is written the same.
#![no_main]

use currant_broker::domain::{QueuePattern, TokenSecret};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(secret) = TokenSecret::parse(text) {
        let read = TokenSecret::parse(&secret.expose()).expect("it was written by us");
        assert!(read.token == secret.token && read.hash() == secret.hash());
        assert!(!format!("{secret:?}").contains(&text[text.len() - 64..]));
    }
    if let Ok(pattern) = text.parse::<QueuePattern>() {
        assert_eq!(pattern.text(), text);
    }
});
