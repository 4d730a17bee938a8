pub const NAME_CHARS_MAX: usize = 128;

/// Whether it may name a queue, a kind or a schedule.
pub fn is_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(byte);
    (1..=NAME_CHARS_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(inner)
}
