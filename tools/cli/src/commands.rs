//! What `cli` does: one file for each command. Each makes its calls, prints what was answered, and leaves errors to [`execute`].

pub mod health;
pub mod join;
pub mod leave;
pub mod play;
pub mod walk;
pub mod watch;
pub mod zones;

use std::time::Duration;

use meridian_telemetry::{AttributeValue, TraceContext};
use tonic::Code;

use crate::cli::{Command, Options};
use crate::client::{Client, Latency, Place};
use crate::error::{CliError, EXIT_OK};
use crate::output::Output;
use crate::session::{Sessions, StoredSession};
use crate::signals::Signals;
use crate::trace::{Action, ActionTrace};

/// What commands share, and what stays from one to the next at the prompt.
pub struct Context {
    /// Where results go.
    pub output: Output,
    /// Where sessions are kept.
    pub sessions: Sessions,
    /// The player to act as; none is who joined last.
    pub name: Option<String>,
    /// Whether commands come from a prompt, which has standard input for itself.
    pub is_prompt: bool,
    options: Options,
    client: Option<Client>,
    action: Option<ActionTrace>,
    tick_rate_hz: Option<u32>,
}

impl Context {
    /// Nothing is connected yet.
    pub fn new(options: Options, output: Output) -> Self {
        Self {
            output,
            sessions: Sessions::new(&options, output),
            name: options.name.clone(),
            is_prompt: false,
            options,
            client: None,
            action: None,
            tick_rate_hz: None,
        }
    }

    /// The server that is asked first.
    pub fn server(&self) -> &str {
        &self.options.server
    }

    /// The connection, made if there is none.
    ///
    /// # Errors
    /// [`CliError::ServerUnreachable`], or [`CliError::TimedOut`].
    pub async fn client(&mut self) -> Result<Client, CliError> {
        let server = self
            .client
            .as_ref()
            .map_or(self.options.server.as_str(), Client::server);
        if let Some(action) = &mut self.action {
            action.asks(server);
        }
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::connect(&self.options.server, self.options.timeout, self.output).await?;
        if let Some(action) = &mut self.action {
            // An answer is waited for from now on.
            action.asks(client.server());
        }
        self.client = Some(client.clone());
        Ok(client)
    }

    /// Goes on with a connection: the next command asks where this one was sent.
    pub fn keep(&mut self, client: Client) {
        if let Some(action) = &mut self.action {
            action.was_sent_to(client.server());
        }
        self.client = Some(client);
    }

    /// The session of the player that acts.
    ///
    /// # Errors
    /// There is none, or it is over.
    pub async fn session(&mut self) -> Result<StoredSession, CliError> {
        let session = self.sessions.current(self.name.as_deref()).await?;
        self.tick_rate_hz = session.joined.map(|joined| joined.tick_rate_hz).or(self.tick_rate_hz);
        Ok(session)
    }

    /// The session of a player that has begun to act: another may have joined meanwhile.
    ///
    /// # Errors
    /// There is none any more, or it is over.
    pub async fn session_of(&self, name: &str) -> Result<StoredSession, CliError> {
        self.sessions.current(Some(name)).await
    }

    /// Ticks in a second of the world, if anybody has said so.
    pub fn tick_rate_hz(&self) -> Option<u32> {
        self.tick_rate_hz
    }

    /// A server has said how many ticks a second has.
    pub fn set_tick_rate_hz(&mut self, tick_rate_hz: u32) {
        self.tick_rate_hz = Some(tick_rate_hz);
    }

    /// Begins an action and its trace; the one before ends.
    pub fn begin(&mut self, action: Action) -> TraceContext {
        let action = ActionTrace::begin(action);
        let context = action.context();
        self.action = Some(action);
        context
    }

    /// The action's call was answered after so long: what is told of that.
    pub fn answered(&mut self, latency: Duration, trace: TraceContext) -> Latency {
        if let Some(action) = &mut self.action {
            action.answered(latency);
        }
        Latency::new(latency, self.tick_rate_hz, trace)
    }

    /// A move of the action's stream was refused after so long; the stream goes on.
    pub fn refused(&self, latency: Duration, code: Code) {
        if let Some(action) = &self.action {
            action.measure(latency, code);
        }
    }

    /// Tells more about the action in its span.
    pub fn attribute(&mut self, key: &'static str, value: impl Into<AttributeValue>) {
        if let Some(action) = &mut self.action {
            action.attribute(key, value);
        }
    }

    /// Tells in its span where the action left the entity.
    pub fn attribute_place(&mut self, place: &Place) {
        use meridian_telemetry::span_definitions::{ATTRIBUTE_ENTITY, ATTRIBUTE_TICK};
        self.attribute(ATTRIBUTE_ENTITY, place.entity.clone());
        self.attribute(ATTRIBUTE_TICK, place.tick);
    }

    /// Prints an error, ends its action with it, and tells the exit code.
    pub fn failed(&mut self, error: &CliError) -> u8 {
        let unusable = matches!(
            error,
            CliError::ServerUnreachable { .. } | CliError::ConnectionLost { .. } | CliError::TimedOut { .. }
        );
        if unusable {
            // The next command connects again, to the server that was named.
            self.client = None;
        }
        let action = self.action.take().map(|action| action.fail(error));
        self.output.error(error, action)
    }

    fn succeeded(&mut self) {
        if let Some(action) = self.action.take() {
            action.succeed();
        }
    }
}

/// Does what a command says until a signal ends it, prints what comes of it, and tells the exit code. The signal stays for who called.
pub async fn execute(context: &mut Context, command: Command, signals: &Signals) -> u8 {
    // It ends with signals by itself, and well.
    if let Command::Watch(arguments) = command {
        let done = watch::run(context, &arguments, signals).await;
        return end(context, done);
    }
    let done = tokio::select! {
        done = act(context, command) => done,
        signal = signals.received() => Err(CliError::Interrupted(signal).into()),
    };
    end(context, done)
}

async fn act(context: &mut Context, command: Command) -> Result<(), Ended> {
    match command {
        Command::Join => join::run(context).await,
        Command::Leave => leave::run(context).await,
        Command::Move(arguments) => walk::run(context, &arguments).await,
        Command::Watch(_) => Ok(()),
        Command::Zones => zones::run(context).await,
        Command::Play => play::run(context).await,
        Command::Status => health::run(context).await,
    }
}

fn end(context: &mut Context, done: Result<(), Ended>) -> u8 {
    match done {
        Ok(()) => {
            context.succeeded();
            EXIT_OK
        }
        // It was told where it happened; this is what the process ends with.
        Err(Ended::Told(code)) => {
            context.succeeded();
            code
        }
        Err(Ended::Failed(error)) => context.failed(&error),
    }
}

/// How a command ends that did not do all that was asked.
pub enum Ended {
    /// With an error that is still to be told.
    Failed(CliError),
    /// With an exit code; why was told before.
    Told(u8),
}

impl From<CliError> for Ended {
    fn from(error: CliError) -> Self {
        Self::Failed(error)
    }
}
