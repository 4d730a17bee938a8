//! Who calls. The valid tokens are in memory, as the database had them at the last look: a call asks the
//! database nothing, and so neither does a stranger's. A NOTIFY says when to look, and time does.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Core, PipelineError, error::log};
use crate::{
    clock::{Clock, time_of_micros},
    domain::{JobId, JobKey, Queue, QueueId, Scope, Token, TokenHash, TokenId, TokenSecret},
    store::{self, Actor, StoreError},
};

/// What callers need.
#[derive(Clone, Debug)]
pub struct AccessLimits {
    /// Without this everybody may do everything.
    pub required: bool,
    /// Valid tokens, in the database and here.
    pub tokens_max: usize,
}

/// A token that was valid at the last look.
struct Member {
    token: Token,
    hash: Option<TokenHash>,
    /// Fires when it isn't valid any more.
    ended: CancellationToken,
    /// In microseconds since 1970; 0: not yet.
    used_at: AtomicI64,
    noted_at: AtomicI64,
}

/// Who calls: somebody with a token, or anybody while none is needed. Cheap to clone.
#[derive(Clone, Default)]
pub struct Caller(Option<Arc<Member>>);

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.0.as_ref().map(|member| member.token.id)).finish()
    }
}

impl Caller {
    pub fn allows(&self, scope: Scope) -> bool {
        self.0.as_ref().is_none_or(|member| member.token.grant.allows(scope))
    }

    pub fn may_use(&self, queue: &str) -> bool {
        self.0.as_ref().is_none_or(|member| member.token.grant.is_for(queue))
    }

    /// No queue needs a look then.
    pub fn may_use_all_queues(&self) -> bool {
        self.0.as_ref().is_none_or(|member| member.token.grant.is_for_all_queues())
    }

    /// Fires when the token isn't valid any more; `None`: never.
    pub fn ended(&self) -> Option<CancellationToken> {
        self.0.as_ref().map(|member| member.ended.clone())
    }

    /// `None` for anybody.
    pub(super) fn actor(&self) -> Option<Actor<'_>> {
        let token = &self.0.as_ref()?.token;
        Some(Actor { token: Some(token.id), name: &token.name })
    }
}

/// Why a caller isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    NoToken,
    BadToken,
}

#[derive(Default)]
struct Members {
    by_id: HashMap<TokenId, Arc<Member>>,
    by_certificate: HashMap<String, Arc<Member>>,
}

/// Who may call.
pub struct Access {
    limits: AccessLimits,
    /// At most `tokens_max`.
    members: RwLock<Members>,
    look: Notify,
    /// One look at a time: an older answer isn't to replace a newer one.
    looking: tokio::sync::Mutex<()>,
}

/// How far behind the note of a token's last use may be.
const NOTED_EVERY_MICROS: i64 = 60_000_000;

impl Access {
    pub(super) fn new(limits: AccessLimits) -> Self {
        Self {
            limits,
            members: RwLock::default(),
            look: Notify::new(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    pub fn is_required(&self) -> bool {
        self.limits.required
    }

    pub(super) fn tokens_max(&self) -> usize {
        self.limits.tokens_max
    }

    /// Who calls, by the header `authorization`, or else by the names in a certificate that was verified.
    pub fn caller(
        &self,
        clock: &Clock,
        authorization: Option<&[u8]>,
        names: &[String],
    ) -> Result<Caller, Stranger> {
        let known = match authorization {
            Some(header) => {
                let secret = header.strip_prefix(b"Bearer ").map(std::str::from_utf8);
                secret.and_then(Result::ok).and_then(|secret| self.by_secret(clock, secret))
            }
            None if names.is_empty() => return Err(Stranger::NoToken),
            None => names.iter().find_map(|name| self.by_certificate(clock, name)),
        };
        known.ok_or(Stranger::BadToken)
    }

    /// Whose secret this is, if it is a valid token's.
    fn by_secret(&self, clock: &Clock, secret: &str) -> Option<Caller> {
        let secret = TokenSecret::parse(secret)?;
        let member = self.members.read().by_id.get(&secret.token).cloned()?;
        (member.hash? == secret.hash()).then_some(())?;
        admit(clock, member)
    }

    /// To whom something is granted by a name in his certificate, which has been verified.
    fn by_certificate(&self, clock: &Clock, name: &str) -> Option<Caller> {
        let member = self.members.read().by_certificate.get(name).cloned()?;
        admit(clock, member)
    }

    /// There may be others now.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Waits until there may be others, at most for `most`.
    pub async fn wait_to_look(&self, most: Duration) {
        // What has passed by then is a reason to look too.
        let _ = tokio::time::timeout(most, self.look.notified()).await;
    }

    /// Takes these for the valid ones. What isn't among them any more, or not the same, has ended.
    fn replace(&self, tokens: Vec<(Token, Option<TokenHash>)>) {
        let mut members = self.members.write();
        let before = std::mem::take(&mut *members);
        for (token, hash) in tokens {
            let known = before.by_id.get(&token.id).filter(|known| {
                let last_used_at = known.token.last_used_at;
                known.hash == hash && known.token == Token { last_used_at, ..token.clone() }
            });
            let member = known.cloned().unwrap_or_else(|| Arc::new(Member::new(token, hash)));
            if let Some(name) = &member.token.certificate {
                members.by_certificate.insert(name.clone(), Arc::clone(&member));
            }
            members.by_id.insert(member.token.id, member);
        }
        for old in before.by_id.values() {
            let now = members.by_id.get(&old.token.id);
            if !now.is_some_and(|now| Arc::ptr_eq(now, old)) {
                old.ended.cancel();
            }
        }
    }

    /// How many are valid, as of the last look.
    pub(super) fn tokens(&self) -> usize {
        self.members.read().by_id.len()
    }

    /// Tokens whose last use is to be noted.
    fn used(&self) -> Vec<Arc<Member>> {
        let members = self.members.read();
        let to_note = |member: &&Arc<Member>| {
            let used = member.used_at.load(Ordering::Relaxed);
            used >= member.noted_at.load(Ordering::Relaxed) + NOTED_EVERY_MICROS
        };
        members.by_id.values().filter(to_note).cloned().collect()
    }
}

impl Member {
    fn new(token: Token, hash: Option<TokenHash>) -> Self {
        let noted_at = AtomicI64::new(token.last_used_at.unwrap_or_default());
        let (ended, used_at) = (CancellationToken::new(), AtomicI64::new(0));
        Self { token, hash, ended, used_at, noted_at }
    }
}

/// Unless its time is over.
fn admit(clock: &Clock, member: Arc<Member>) -> Option<Caller> {
    let now = clock.database_micros();
    member.token.expires_at.is_none_or(|at| now < at).then_some(())?;
    member.used_at.store(now, Ordering::Relaxed);
    Some(Caller(Some(member)))
}

impl Core {
    /// Looks which tokens are valid.
    pub async fn look_for_tokens(&self) -> Result<(), StoreError> {
        let _alone = self.access.looking.lock().await;
        let client = self.store.client().await?;
        let max = self.access.tokens_max();
        let tokens = store::valid_tokens(&client, max.saturating_add(1)).await?;
        if tokens.len() > max {
            tracing::error!(
                max,
                "more tokens are valid than access.tokens_max; the newest don't work"
            );
        }
        self.access.replace(tokens.into_iter().take(max).collect());
        Ok(())
    }

    /// Writes down when tokens were last used, those that weren't noted of late.
    pub async fn note_use_of_tokens(&self) -> Result<(), StoreError> {
        let used = self.access.used();
        if used.is_empty() {
            return Ok(());
        }
        let times: Vec<i64> = used.iter().map(|it| it.used_at.load(Ordering::Relaxed)).collect();
        let rows: Vec<_> = used
            .iter()
            .zip(&times)
            .map(|(member, at)| (member.token.id, time_of_micros(*at)))
            .collect();
        let client = self.store.client().await?;
        store::touch_tokens(&client, &rows).await?;
        for (member, at) in used.iter().zip(times) {
            member.noted_at.store(at, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Deletes tokens that ended, and records of what admins did, so long ago.
    pub async fn prune_access(&self, age: Duration) -> Result<(), StoreError> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let before = time_of_micros(self.clock.database_micros().saturating_sub(age));
        let client = self.store.client().await?;
        let tokens = store::prune_tokens(&client, before).await?;
        let records = store::prune_audit(&client, before).await?;
        tracing::debug!(tokens, records, "tokens and audit records were pruned");
        Ok(())
    }

    /// As `locate_sorted`, those of the caller's queues.
    pub(super) async fn keys_for(
        self: &Arc<Self>,
        caller: &Caller,
        ids: &[JobId],
        queue: Option<QueueId>,
    ) -> Result<Vec<JobKey>, StoreError> {
        let mut keys = self.locate_sorted(ids, queue).await?;
        if !caller.may_use_all_queues() {
            let queues: Vec<QueueId> = keys.iter().map(|key| key.queue).collect();
            let queues = self.queues_by_id(&queues).await?;
            let may_use = |it: &Arc<Queue>| caller.may_use(&it.name);
            keys.retain(|key| queues.get(&key.queue).is_some_and(may_use));
        }
        Ok(keys)
    }

    /// Leaves a record of what an admin asks for, before it is done.
    pub(super) async fn note_action(
        &self,
        caller: &Caller,
        action: &'static str,
        ids: &[JobId],
    ) -> Result<(), PipelineError> {
        let Some(actor) = caller.actor() else { return Ok(()) };
        let note = async {
            let client = self.store.client().await?;
            store::note_action(&client, actor, action, ids).await
        };
        note.await.map_err(not_noted)
    }

    /// The same for a queue or a schedule, by its name.
    pub(super) async fn note_action_on(
        &self,
        caller: &Caller,
        action: &'static str,
        object: &str,
    ) -> Result<(), PipelineError> {
        let Some(actor) = caller.actor() else { return Ok(()) };
        let note = async {
            let client = self.store.client().await?;
            store::note_action_on(&client, actor, action, object).await
        };
        note.await.map_err(not_noted)
    }
}

fn not_noted(error: StoreError) -> PipelineError {
    log(&error, "an admin's call could not be written down and was refused");
    PipelineError::from(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Grant;

    fn token(id: i64) -> Token {
        let queues = vec!["emails*".parse().expect("a pattern")];
        Token {
            id: TokenId(id),
            name: "t".to_owned(),
            grant: Grant { scopes: vec![Scope::Work], queues },
            certificate: None,
            created_at: 1,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }

    fn access() -> (Access, Clock) {
        let access = Access::new(AccessLimits { required: true, tokens_max: 10 });
        (access, Clock::new(time_of_micros(1_000_000_000)))
    }

    #[test]
    fn only_the_right_secret_of_a_valid_token_is_let_in() {
        let (access, clock) = access();
        let (digits, hash) = TokenSecret::digits([1; 32]);
        let expired = Token { expires_at: Some(999_999_999), ..token(2) };
        access.replace(vec![(token(1), Some(hash)), (expired, Some(hash))]);
        let secret = |id| TokenSecret::new(TokenId(id), digits.clone()).expose();
        let caller = access.by_secret(&clock, &secret(1)).expect("a valid token");
        assert!(caller.allows(Scope::Work) && !caller.allows(Scope::Enqueue));
        assert!(caller.may_use("emails/eu") && !caller.may_use("other"));
        assert!(access.by_secret(&clock, &secret(2)).is_none(), "it has expired");
        assert!(access.by_secret(&clock, &secret(3)).is_none(), "there is none");
        let other = TokenSecret::new(TokenId(1), TokenSecret::digits([2; 32]).0).expose();
        assert!(access.by_secret(&clock, &other).is_none(), "it is another secret");
        assert!(access.by_secret(&clock, "").is_none());
    }

    #[test]
    fn what_is_revoked_or_changed_ends_and_the_others_go_on() {
        let (access, clock) = access();
        let by_name = |id, name: &str| Token { certificate: Some(name.to_owned()), ..token(id) };
        access.replace(vec![
            (by_name(1, "a"), None),
            (by_name(2, "b"), None),
            (by_name(3, "c"), None),
        ]);
        let ended = |name| {
            let caller = access.by_certificate(&clock, name).expect("a valid one");
            caller.ended().expect("a token's")
        };
        let (a, b, c) = (ended("a"), ended("b"), ended("c"));
        let used = Token { last_used_at: Some(7), ..by_name(1, "a") };
        let wider = Grant { scopes: vec![Scope::Admin], ..by_name(3, "c").grant };
        access.replace(vec![(used, None), (Token { grant: wider, ..by_name(3, "c") }, None)]);
        assert_eq!([&a, &b, &c].map(CancellationToken::is_cancelled), [false, true, true]);
        assert!(access.by_certificate(&clock, "b").is_none());
        assert!(access.by_certificate(&clock, "c").is_some_and(|it| it.allows(Scope::Admin)));
    }

    #[test]
    fn use_is_noted_once_a_minute() {
        let (access, clock) = access();
        access.replace(vec![(Token { certificate: Some("a".to_owned()), ..token(1) }, None)]);
        assert!(access.used().is_empty());
        assert!(access.by_certificate(&clock, "a").is_some());
        let used = access.used();
        assert_eq!(used.len(), 1);
        used[0].noted_at.store(clock.database_micros(), Ordering::Relaxed);
        assert!(access.by_certificate(&clock, "a").is_some());
        assert!(access.used().is_empty());
    }
}
