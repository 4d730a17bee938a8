//! A value that isn't printed.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A string with a password in it. `Debug` and serialisation show `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for where it is needed.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// No secret is an empty one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "***" }
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_printed_nowhere() {
        let secret = Secret::from("postgres://u:hunter2@h/d".to_owned());
        assert_eq!(format!("{secret:?} {secret:#?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).expect("a string"), "\"***\"");
    }
}
