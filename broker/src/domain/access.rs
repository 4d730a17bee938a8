//! Who may do what: scopes and patterns of queues, which a token or a certificate carries.

use std::str::FromStr;

/// A token's number, which is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub i64);

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Enqueue,
    /// Take jobs and report their outcomes.
    Work,
    /// Look, but not at what jobs carry.
    View,
    Read,
    /// Change jobs that are stored, and all that the others allow; with all queues, tokens too.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 5] = [Self::Enqueue, Self::Work, Self::View, Self::Read, Self::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Work => "work",
            Self::View => "view",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| format!("enqueue, work, view, read or admin; this is {text:?}"))
    }
}

const NAME_CHARS_MAX: usize = 128;

/// Names of queues: one, or all with this beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueuePattern {
    Name(String),
    /// Written with a `*` at the end.
    Beginning(String),
}

impl QueuePattern {
    pub fn all() -> Self {
        Self::Beginning(String::new())
    }

    pub fn fits(&self, queue: &str) -> bool {
        match self {
            Self::Name(name) => queue == name,
            Self::Beginning(beginning) => queue.starts_with(beginning),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Beginning(beginning) => format!("{beginning}*"),
        }
    }
}

impl FromStr for QueuePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, is_beginning) =
            text.strip_suffix('*').map_or((text, false), |beginning| (beginning, true));
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
        let first = name.bytes().next();
        let good = first.map_or(is_beginning, |byte| byte.is_ascii_alphanumeric())
            && name.bytes().all(inner)
            && name.len() <= NAME_CHARS_MAX;
        match (good, is_beginning) {
            (true, true) => Ok(Self::Beginning(name.to_owned())),
            (true, false) => Ok(Self::Name(name.to_owned())),
            (false, _) => {
                Err("a queue's name, or its beginning and a *, or * for all queues".to_owned())
            }
        }
    }
}

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub scopes: Vec<Scope>,
    pub queues: Vec<QueuePattern>,
}

impl Grant {
    pub fn allows(&self, scope: Scope) -> bool {
        let reads = |one| scope == Scope::View && one == Scope::Read;
        self.scopes.iter().any(|one| [scope, Scope::Admin].contains(one) || reads(*one))
    }

    pub fn is_for(&self, queue: &str) -> bool {
        self.queues.iter().any(|pattern| pattern.fits(queue))
    }

    pub fn is_for_all_queues(&self) -> bool {
        self.queues.contains(&QueuePattern::all())
    }
}

/// A token as stored, or what is granted to a certificate, without anything secret. Times are in
/// microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub grant: Grant,
    /// A name in a client's certificate, for those who come with one and no secret.
    pub certificate: Option<String>,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    pub last_used_at: Option<i64>,
}

/// A token to be stored.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub name: String,
    pub grant: Grant,
    pub certificate: Option<String>,
    pub expires_at: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(scopes: &[Scope], queues: &[&str]) -> Grant {
        let queues = queues.iter().map(|text| text.parse().expect("a pattern")).collect();
        Grant { scopes: scopes.to_vec(), queues }
    }

    #[test]
    fn patterns_are_names_beginnings_or_all() {
        let mail = grant(&[Scope::Work], &["emails*", "sms"]);
        for (queue, fits) in [("emails", true), ("emails/eu", true), ("sms", true), ("sms2", false)]
        {
            assert_eq!(mail.is_for(queue), fits, "{queue}");
        }
        assert!(!mail.is_for_all_queues() && grant(&[], &["x", "*"]).is_for_all_queues());
        for text in ["a", "a*", "*", "eu/mail:1"] {
            let pattern: QueuePattern = text.parse().expect(text);
            assert_eq!(pattern.text(), text);
        }
        for bad in ["", "*a", "a**", "a b", ".a", "-*", &"a".repeat(129)] {
            assert!(bad.parse::<QueuePattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_admin_may_do_all_that_others_may() {
        let admin = grant(&[Scope::Admin], &["*"]);
        assert!(Scope::ALL.into_iter().all(|scope| admin.allows(scope)));
        let worker = grant(&[Scope::Work, Scope::Read], &["*"]);
        assert!(worker.allows(Scope::Work) && worker.allows(Scope::Read));
        assert!(!worker.allows(Scope::Enqueue) && !worker.allows(Scope::Admin));
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        assert!("root".parse::<Scope>().is_err());
    }
}
