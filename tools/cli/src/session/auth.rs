//! Asks the role auth for a session over HTTP.

use std::time::Duration;

use meridian_session::{
    ErrorBody, PROTOCOL_VERSION, RESUME_BYTES_MAX, SESSION_PATH, SessionRequest, SessionResponse, validate_name,
};

use crate::error::CliError;

/// Largest answer that is read, in bytes: a session is below four kilobytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Asks `base` for a session of `name`, or of whom `resume` is of. Blocks for up to `timeout`.
///
/// # Errors
/// [`CliError::AuthUnreachable`], [`CliError::AuthRefused`], [`CliError::TimedOut`] or [`CliError::Malformed`].
pub fn ask(base: &str, name: &str, resume: Option<&str>, timeout: Duration) -> Result<SessionResponse, CliError> {
    let url = format!("{base}{SESSION_PATH}");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        // A token is told to nobody but who was named.
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let request = SessionRequest {
        name: name.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        resume: resume.map(str::to_owned),
        lost_gateway: None,
    };
    let in_words = |error: ureq::Error| in_plain_words(&error, base, timeout);
    let mut answer = agent.post(&url).send_json(request).map_err(in_words)?;
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let text = body.map_err(in_words)?;
    if status.is_success() {
        return read_session(&text, base);
    }
    Err(match serde_json::from_str::<ErrorBody>(&text) {
        Ok(ErrorBody { code, message }) => CliError::AuthRefused {
            url: base.to_owned(),
            code,
            message: crate::error::printable(&message),
        },
        Err(_) if status.is_server_error() => CliError::AuthUnreachable {
            url: base.to_owned(),
            reason: format!("status {status}"),
        },
        Err(_) => malformed(base, format!("status {status}")),
    })
}

/// Whether auth does not know the session any more: asked without a resume it gives one, to another player.
pub fn is_bad_resume(error: &CliError) -> bool {
    matches!(error, CliError::AuthRefused { code, .. } if code == meridian_session::error_code::BAD_RESUME)
}

fn read_session(text: &str, base: &str) -> Result<SessionResponse, CliError> {
    let session: SessionResponse = serde_json::from_str(text).map_err(|error| malformed(base, error.to_string()))?;
    let resume = &session.resume;
    if resume.is_empty() || resume.len() > RESUME_BYTES_MAX || !resume.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed(base, "a token that is none".to_owned()));
    }
    validate_name(&session.name).map_err(|error| malformed(base, error.to_string()))?;
    Ok(session)
}

fn malformed(base: &str, reason: String) -> CliError {
    CliError::Malformed {
        whom: format!("auth at {base}"),
        reason: crate::error::printable(&reason),
    }
}

fn in_plain_words(error: &ureq::Error, base: &str, timeout: Duration) -> CliError {
    let reason = match error {
        ureq::Error::Timeout(_) => {
            return CliError::TimedOut {
                whom: format!("auth at {base}"),
                limit: timeout,
            };
        }
        ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::BodyExceedsLimit(_) | ureq::Error::BadUri(_) => {
            return malformed(base, error.to_string());
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nobody listens there".to_owned()
        }
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        error => error.to_string(),
    };
    CliError::AuthUnreachable {
        url: base.to_owned(),
        reason,
    }
}
