//! Errors in the log: in JSON the subscriber would leave out what caused them.

use std::{error::Error, fmt};

/// An error with its causes, on a line; of each what it says first, since what Postgres says behind that (DETAIL)
/// may have a row's values in it.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    Causes(error)
}

struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A cause often says all that the one before said last.
        let mut said = String::new();
        let mut next = Some(self.0);
        while let Some(error) = next {
            let text = error.to_string();
            let text = text.lines().next().unwrap_or_default();
            if !said.ends_with(text) {
                let colon = if said.is_empty() { "" } else { ": " };
                said = format!("{said}{colon}{text}");
            }
            next = error.source();
        }
        out.write_str(&said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn link(text: &'static str, source: Option<Link>) -> Link {
        Link { text, source: source.map(Box::new) }
    }

    #[test]
    fn all_causes_are_said_once_and_no_details() {
        let last = link("ERROR: a value is too long\nDETAIL: it is 's3cret'", None);
        let same = link("db error: ERROR: a value is too long", Some(last));
        let first = link("the job could not be stored", Some(same));
        let said = "the job could not be stored: db error: ERROR: a value is too long";
        assert_eq!(causes(&first).to_string(), said);
    }
}
