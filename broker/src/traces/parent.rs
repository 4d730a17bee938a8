/// The span that a job's `traceparent` names, of a trace that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
}

impl Parent {
    /// `None` for what isn't W3C's `version-trace-parent-flags`, and if the flags say that nobody records it.
    pub fn parse(traceparent: &str) -> Option<Parent> {
        // Most jobs have none.
        if traceparent.is_empty() {
            return None;
        }
        let mut parts = traceparent.split('-');
        let [version] = hex(parts.next()?)?;
        let trace: [u8; 16] = hex(parts.next()?)?;
        let span: [u8; 8] = hex(parts.next()?)?;
        let [flags] = hex(parts.next()?)?;
        let well_formed = version != 0xff && (version != 0 || parts.next().is_none());
        let sampled = flags & 1 == 1;
        (well_formed && sampled && trace != [0; 16] && span != [0; 8])
            .then_some(Parent { trace, span })
    }
}

/// So many bytes, in lower case.
fn hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digit = |one: u8| match one {
        b'0'..=b'9' => Some(one - b'0'),
        b'a'..=b'f' => Some(one - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    let pairs = text.as_bytes().chunks(2);
    if text.len() != 2 * BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(*pair.get(1)?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recorded_trace_is_joined() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = Parent::parse(good).map(|parent| (parent.trace[0], parent.span[7]));
        assert_eq!(parent, Some((0x0a, 0x31)));
        assert!(Parent::parse(&good.replacen("00", "cc", 1)).is_some(), "a later version");
        for bad in [
            String::new(),
            "00-11-22-01".to_owned(),
            good.to_uppercase(),
            good.replace("-01", "-00"),
            good.replacen("00", "ff", 1),
            format!("{good}-more"),
            good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            good.replace("b7ad6b7169203331", "b7ad6b716920333ü"),
        ] {
            assert_eq!(Parent::parse(&bad), None, "{bad}");
        }
    }
}
