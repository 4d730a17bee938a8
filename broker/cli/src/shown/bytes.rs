//! Payloads and results, which may be anything.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// Text where it is; else base64.
pub(crate) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| BASE64_STANDARD.encode(bytes), str::to_owned)
}

/// JSON as it is; else `{"text": …}` or `{"base64": …}`, so that each form can be told from the others.
/// Nothing is null.
pub(crate) fn json(bytes: &[u8], is_json: bool) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    let parsed = if is_json { serde_json::from_slice(bytes).ok() } else { None };
    parsed.unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_told_from_the_others() {
        assert_eq!(json(b"[1]", true), json!([1]));
        assert_eq!(json(b"[1]", false), json!({ "text": "[1]" }));
        assert_eq!(json(b"[1", true), json!({ "text": "[1" }));
        assert_eq!(json(&[0xff], true), json!({ "base64": "/w==" }));
        assert_eq!(json(b"", true), Value::Null);
        assert_eq!((text(b"a"), text(&[0xff])), ("a".to_owned(), "/w==".to_owned()));
    }
}
