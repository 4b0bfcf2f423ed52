//! Who calls: what the metadata of a request says, as far as it can be believed.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meridian_events::envelope::is_traceparent;
use meridian_ids::PlayerId;
use meridian_rpc::{AUTHORIZATION, ErrorWord, HOPS, STAY, TRACEPARENT, refusal};
use meridian_runtime::SecretKey;
use meridian_session::{RESUME_BYTES_MAX, TokenUserData};
use meridian_tokens::ResumeSeal;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::limits::deadline_of;

/// What stands before the token.
const SCHEME: &str = "Bearer ";
/// How long what this server seals for a call of its own is good, in seconds: for the call and clocks that differ.
const OWN_TOKEN_EXPIRY_S: u32 = 60;

/// Opens the tokens of callers.
pub(crate) struct Identity {
    key: SecretKey,
}

/// Who calls, and on which terms.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) player: PlayerId,
    pub(crate) name: String,
    /// For the server that is asked instead of this one; never shown.
    pub(crate) token: String,
    pub(crate) traceparent: Option<String>,
    /// Servers that the call has passed.
    pub(crate) hops: u8,
    /// A move that moves nothing.
    pub(crate) only_stays: bool,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
}

impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Caller")
            .field("player", &self.player)
            .field("hops", &self.hops)
            .finish_non_exhaustive()
    }
}

impl Identity {
    pub(crate) fn new(key: SecretKey) -> Self {
        Self { key }
    }

    fn seal(&self) -> ResumeSeal<'_> {
        ResumeSeal {
            key: &self.key,
            expiry_s: OWN_TOKEN_EXPIRY_S,
        }
    }

    /// Who calls; the trace goes on as is said.
    ///
    /// # Errors
    /// There is no token, or it is not valid any more; or the metadata that servers add is none.
    pub(crate) fn caller(
        &self,
        metadata: &MetadataMap,
        arrived: Instant,
        traceparent: Option<String>,
    ) -> Result<Caller, Status> {
        let token = token_of(metadata)?;
        let opened = self.seal().open(unix_now(), token).map_err(|_| {
            refusal(
                ErrorWord::Token,
                "the token is not valid, or not any more: ask auth for another session",
            )
        })?;
        let hops = match metadata.get(HOPS).map(|hops| hops.to_str().map(str::parse)) {
            None => 0,
            Some(Ok(Ok(hops))) => hops,
            Some(_) => {
                let message = format!("the metadata {HOPS} must be a number of 0 to 255");
                return Err(refusal(ErrorWord::Argument, message));
            }
        };
        Ok(Caller {
            player: PlayerId(opened.player_id()),
            name: opened.name().to_owned(),
            token: token.to_owned(),
            traceparent,
            hops,
            only_stays: metadata.get(STAY).is_some_and(|stay| stay.as_encoded_bytes() == b"1"),
            arrived,
            deadline: deadline_of(arrived, metadata.as_ref()),
        })
    }

    /// A caller for what this server asks of another for a player by itself: its own token may have expired while it played.
    pub(crate) fn for_player(&self, player: PlayerId, name: &str, deadline: Instant) -> Option<Caller> {
        let opened = TokenUserData::new(player.0, name).ok()?;
        Some(Caller {
            player,
            name: name.to_owned(),
            token: self.seal().seal(unix_now(), &opened).ok()?,
            traceparent: None,
            hops: 0,
            only_stays: false,
            arrived: Instant::now(),
            deadline,
        })
    }
}

impl Caller {
    /// The same caller with a new token: the one that its stream began with was good then, and may have expired since.
    pub(crate) fn again(&self, identity: &Identity) -> Self {
        let own = identity.for_player(self.player, &self.name, self.deadline);
        Self {
            token: own.map_or_else(|| self.token.clone(), |own| own.token),
            ..self.clone()
        }
    }

    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The token, as text that is not too long to be one.
fn token_of(metadata: &MetadataMap) -> Result<&str, Status> {
    let missing = || {
        let message = format!(
            "the metadata {AUTHORIZATION} must be `Bearer TOKEN`, with the `resume` that POST /v1/session gives"
        );
        refusal(ErrorWord::Token, message)
    };
    let mut values = metadata.get_all(AUTHORIZATION).iter();
    let text = values.next().ok_or_else(missing)?.to_str().map_err(|_| missing())?;
    // Of two it is not known whose call it is.
    if values.next().is_some() {
        return Err(missing());
    }
    let (scheme, token) = text.split_at_checked(SCHEME.len()).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || token.len() > RESUME_BYTES_MAX {
        return Err(missing());
    }
    Ok(token)
}

/// The trace that a request belongs to, if it says so in the form of version 00.
pub(crate) fn traceparent_of(metadata: &MetadataMap) -> Option<&str> {
    let text = metadata.get(TRACEPARENT)?.to_str().ok()?;
    is_traceparent(text).then_some(text)
}

/// What auth counts tokens' lives by.
fn unix_now() -> Duration {
    // A clock that is set before 1970 makes every token look good for long, as it does at auth.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::metadata::MetadataValue;

    use super::*;

    fn identity() -> Identity {
        Identity::new(SecretKey::from([7; 32]))
    }

    fn with(key: &'static str, values: &[Vec<u8>]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in values {
            if let Ok(value) = MetadataValue::try_from(&value[..]) {
                metadata.append(key, value);
            }
        }
        metadata
    }

    fn authorized(text: &str) -> MetadataMap {
        with(AUTHORIZATION, &[text.as_bytes().to_vec()])
    }

    fn good() -> String {
        let deadline = Instant::now();
        identity().for_player(PlayerId(42), "Ada", deadline).unwrap().token
    }

    fn refused(metadata: &MetadataMap) -> ErrorWord {
        let status = identity().caller(metadata, Instant::now(), None).unwrap_err();
        ErrorWord::of(&status).unwrap()
    }

    #[test]
    fn a_token_says_who_calls_and_anything_else_says_nothing() {
        let token = good();
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let caller = identity().caller(&authorized(&format!("{scheme} {token}")), Instant::now(), None);
            let caller = caller.unwrap();
            assert_eq!((caller.player, caller.name.as_str()), (PlayerId(42), "Ada"));
            assert_eq!((caller.hops, caller.only_stays), (0, false));
            assert!(!format!("{caller:?}").contains(&token), "a token is never shown");
        }
        let longer = format!("Bearer {}", "A".repeat(RESUME_BYTES_MAX + 1));
        for text in [
            "",
            "Bearer",
            "Bearer ",
            "Basic QTpC",
            &token,
            &longer,
            &format!("Bearer {token}A"),
        ] {
            assert_eq!(refused(&authorized(text)), ErrorWord::Token, "{text}");
        }
        let both = with(
            AUTHORIZATION,
            &[format!("Bearer {token}").into_bytes(), b"Bearer A".to_vec()],
        );
        assert_eq!(refused(&both), ErrorWord::Token);
    }

    #[test]
    fn a_token_of_yesterday_is_none() {
        let ada = TokenUserData::new(42, "Ada").unwrap();
        let key = SecretKey::from([7; 32]);
        let seal = ResumeSeal { key: &key, expiry_s: 1 };
        let old = seal.seal(unix_now() - Duration::from_secs(86_400), &ada).unwrap();
        assert_eq!(refused(&authorized(&format!("Bearer {old}"))), ErrorWord::Token);
    }

    #[test]
    fn hops_are_a_number_and_a_trace_has_its_form() {
        let mut metadata = authorized(&format!("Bearer {}", good()));
        metadata.insert(HOPS, MetadataValue::from_static("1"));
        metadata.insert(TRACEPARENT, MetadataValue::from_static("00-xyz"));
        let caller = identity().caller(&metadata, Instant::now(), None).unwrap();
        assert_eq!((caller.hops, traceparent_of(&metadata)), (1, None));
        metadata.insert(HOPS, MetadataValue::from_static("-1"));
        assert_eq!(refused(&metadata), ErrorWord::Argument);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm_as_metadata(
            token in prop::collection::vec(any::<u8>(), 0..600),
            text in "[Bb]earer [A-Za-z0-9_-]{0,520}",
            others in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            for key in [AUTHORIZATION, HOPS, TRACEPARENT, STAY] {
                let bytes = if key == AUTHORIZATION { &token } else { &others };
                let mut metadata = authorized(&text);
                for value in with(key, std::slice::from_ref(bytes)).get_all(key) {
                    metadata.insert(key, value.clone());
                }
                let _ = traceparent_of(&metadata);
                prop_assert!(identity().caller(&metadata, Instant::now(), None).is_err());
            }
        }
    }
}
