//! How many values a JSON text has, before anything is made of them: an empty job takes three bytes of text,
//! and hundreds in memory.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What is smaller can't become large.
const SMALL_BYTES: usize = 64 * 1024;

/// Whether there are more than so many: members of objects and elements of lists, however deep. What can't be
/// read is the parser's to refuse.
pub(super) fn has_more(json: &[u8], most: usize) -> bool {
    if json.len() <= SMALL_BYTES {
        return false;
    }
    let mut left = Some(most);
    // How far it gets is all that is asked.
    let _ = Count(&mut left).deserialize(&mut serde_json::Deserializer::from_slice(json));
    left.is_none()
}

/// Counts down what is in a value, and stops when there is more than was left: then nothing is.
struct Count<'a>(&'a mut Option<usize>);

impl Count<'_> {
    fn one<E: Error>(&mut self) -> Result<(), E> {
        *self.0 = self.0.and_then(|left| left.checked_sub(1));
        self.0.map(|_| ()).ok_or_else(|| E::custom("too many values"))
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Count(self.0))?.is_some() {
            self.one()?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        while object.next_key::<IgnoredAny>()?.is_some() {
            self.one()?;
            object.next_value_seed(Count(self.0))?;
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Larger than what isn't looked at.
    fn large(json: &str) -> String {
        format!("{}{json}", " ".repeat(SMALL_BYTES))
    }

    #[test]
    fn values_are_counted_however_deep_they_are() {
        for (json, values) in [
            ("7", 0),
            ("[]", 0),
            ("[1, -1, 1.5, true, null, \"\\n\"]", 6),
            ("{\"jobs\": [{\"kind\": \"\", \"tags\": [\"a\", \"b\"]}, {}]}", 7),
            ("[[[[]]]]", 3),
        ] {
            let text = large(json);
            assert!(!has_more(text.as_bytes(), values), "{json}");
            assert!(values == 0 || has_more(text.as_bytes(), values - 1), "{json}");
            assert!(!has_more(json.as_bytes(), 0), "{json} is small");
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_parser() {
        for json in ["", "[1, 2", "[1 2]", "{\"a\": 1", &"[".repeat(1000)] {
            assert!(!has_more(large(json).as_bytes(), 1000), "{json:.20}");
        }
        assert!(
            !has_more(large("[1, 2 3").as_bytes(), 2) && has_more(large("[1, 2 3").as_bytes(), 1)
        );
    }
}
