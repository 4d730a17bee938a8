//! A token's secret: what clients send, and the hash that is kept of it.

use std::fmt::{self, Write};

use super::TokenId;

const BEGINNING: &str = "currant_";
const DIGITS: usize = 64;

/// `currant_<number of the token>_<64 hexadecimal digits>`. `Debug` doesn't show the digits.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret {
    pub token: TokenId,
    digits: String,
}

/// blake3 of a secret's digits. They are 256 random bits: there is nothing to guess, so that a fast hash
/// without salt is enough. Comparing takes the same time wherever two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash(blake3::Hash);

impl TokenHash {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TokenSecret {
    /// The digits of a new secret, and the hash to be stored of them.
    pub fn digits(random: [u8; 32]) -> (String, TokenHash) {
        let digits = random.iter().fold(String::with_capacity(DIGITS), |mut digits, byte| {
            // Writing to a String doesn't fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        let hash = TokenHash(blake3::hash(digits.as_bytes()));
        (digits, hash)
    }

    pub fn new(token: TokenId, digits: String) -> Self {
        Self { token, digits }
    }

    /// `None`: not in the form of a secret.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, digits) = text.strip_prefix(BEGINNING)?.split_once('_')?;
        let good = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = number.parse().ok().filter(|_| good)?;
        Some(Self { token: TokenId(number), digits: digits.to_owned() })
    }

    pub fn hash(&self) -> TokenHash {
        TokenHash(blake3::hash(self.digits.as_bytes()))
    }

    /// What its owner is given.
    pub fn expose(&self) -> String {
        let Self { token, digits } = self;
        format!("{BEGINNING}{}_{digits}", token.0)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGINNING}{}_***", self.token.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_written_and_never_shown() {
        let (digits, hash) = TokenSecret::digits([0xa7; 32]);
        let secret = TokenSecret::new(TokenId(12), digits.clone());
        assert_eq!(secret.expose(), format!("currant_12_{}", "a7".repeat(32)));
        assert_eq!(TokenSecret::parse(&secret.expose()), Some(secret.clone()));
        assert_eq!(secret.hash(), hash);
        assert_eq!(TokenHash::from_bytes(hash.as_bytes().try_into().expect("32 bytes")), hash);
        assert_ne!(TokenSecret::digits([0xa8; 32]).1, hash);
        assert_eq!(format!("{secret:?}"), "currant_12_***");
        for bad in ["", "currant_", "currant_x_", "currant_1_abc", &format!("currant__{digits}")] {
            assert_eq!(TokenSecret::parse(bad), None, "{bad}");
        }
        assert_eq!(TokenSecret::parse(&format!("currant_1_{}", "g".repeat(64))), None);
    }
}
