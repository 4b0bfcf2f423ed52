//! What each role says of itself: starting, ready, degraded or stopped.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;
use tokio::sync::watch;

/// The state of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Its ports are bound or about to be; it serves nobody yet.
    Starting,
    /// It serves.
    Ready,
    /// It serves, but worse than it should: the detail says why.
    Degraded,
    /// It serves no more.
    Stopped,
}

impl HealthState {
    /// Whether the role takes requests in this state.
    #[must_use]
    pub fn is_serving(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }
}

/// One role's health at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleHealth {
    /// The role's name.
    pub role: Cow<'static, str>,
    /// Its state.
    pub state: HealthState,
    /// Why, or with what; may be empty.
    pub detail: Cow<'static, str>,
}

/// The health of every role of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    roles: Arc<watch::Sender<Vec<RoleHealth>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            roles: Arc::new(watch::Sender::new(Vec::new())),
        }
    }
}

impl Health {
    /// No role yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a role, as starting, or finds it again under the same name.
    pub fn register(&self, role: impl Into<Cow<'static, str>>) -> HealthHandle {
        let role = role.into();
        self.roles.send_if_modified(|roles| {
            let is_new = roles.iter().all(|health| health.role != role);
            if is_new {
                roles.push(RoleHealth {
                    role: role.clone(),
                    state: HealthState::Starting,
                    detail: Cow::Borrowed(""),
                });
            }
            is_new
        });
        HealthHandle {
            health: self.clone(),
            role,
        }
    }

    /// Every role, in the order of registration.
    #[must_use]
    pub fn roles(&self) -> Vec<RoleHealth> {
        self.roles.borrow().clone()
    }

    /// The state of one role; `None` if this process does not run it.
    #[must_use]
    pub fn state(&self, role: &str) -> Option<HealthState> {
        self.roles
            .borrow()
            .iter()
            .find(|health| health.role == role)
            .map(|health| health.state)
    }

    /// Whether there is a role and every role serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        all_serve(&self.roles.borrow())
    }

    /// Waits until [`Health::is_ready`].
    pub async fn ready(&self) {
        let mut roles = self.roles.subscribe();
        // It cannot fail: `self` keeps the sender alive.
        let _ = roles.wait_for(|roles| all_serve(roles)).await;
    }
}

fn all_serve(roles: &[RoleHealth]) -> bool {
    !roles.is_empty() && roles.iter().all(|health| health.state.is_serving())
}

/// How one role sets its own health. Setting takes a short lock, so a loop sets it when something changes, not on each turn.
#[derive(Clone, Debug)]
pub struct HealthHandle {
    health: Health,
    role: Cow<'static, str>,
}

impl HealthHandle {
    /// The role this handle speaks for.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The role is starting; the detail says at what it is.
    pub fn starting(&self, detail: impl Into<Cow<'static, str>>) {
        self.set(HealthState::Starting, detail.into());
    }

    /// The role serves.
    pub fn ready(&self) {
        self.set(HealthState::Ready, Cow::Borrowed(""));
    }

    /// The role serves, but worse than it should.
    pub fn degraded(&self, detail: impl Into<Cow<'static, str>>) {
        self.set(HealthState::Degraded, detail.into());
    }

    /// The role serves no more.
    pub fn stopped(&self, detail: impl Into<Cow<'static, str>>) {
        self.set(HealthState::Stopped, detail.into());
    }

    fn set(&self, state: HealthState, detail: Cow<'static, str>) {
        let mut changed_from = None;
        self.health.roles.send_if_modified(|roles| {
            let Some(health) = roles.iter_mut().find(|health| health.role == self.role) else {
                return false;
            };
            if health.state == state && health.detail == detail {
                return false;
            }
            changed_from = Some(health.state);
            (health.state, health.detail) = (state, detail.clone());
            true
        });
        match changed_from {
            Some(from) if from == state => tracing::debug!(role = %self.role, ?state, %detail, "health detail"),
            Some(from) => tracing::info!(role = %self.role, ?from, ?state, %detail, "health"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_role_serves() {
        let health = Health::new();
        assert!(!health.is_ready());
        let (zone, auth) = (health.register("zone"), health.register("auth"));
        zone.ready();
        assert!(!health.is_ready());
        auth.degraded("no store");
        assert!(health.is_ready());
        auth.stopped("");
        assert!(!health.is_ready());
        assert_eq!(health.state("zone"), Some(HealthState::Ready));
        assert_eq!(health.state("chat"), None);
    }

    #[test]
    fn a_role_registered_twice_stays_one_role() {
        let health = Health::new();
        health.register("zone").ready();
        health.register("zone");
        assert_eq!(
            health.roles(),
            [RoleHealth {
                role: Cow::Borrowed("zone"),
                state: HealthState::Ready,
                detail: Cow::Borrowed("")
            }]
        );
    }

    #[tokio::test]
    async fn readiness_set_by_a_thread_is_awaited() {
        let health = Health::new();
        let handle = health.register("zone");
        let thread = std::thread::spawn(move || handle.ready());
        health.ready().await;
        thread.join().unwrap();
        assert_eq!(
            serde_json::to_value(health.roles()).unwrap(),
            serde_json::json!([{"role": "zone", "state": "ready", "detail": ""}])
        );
    }
}
