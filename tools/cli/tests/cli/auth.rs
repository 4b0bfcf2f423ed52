//! A small auth: sessions over HTTP, and which of them are good.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use meridian_session::{ErrorBody, PROTOCOL_VERSION, SESSION_PATH, SessionRequest, SessionResponse, error_code};

/// The sessions that there are.
pub struct Sessions {
    /// Player and name by resume.
    known: HashMap<String, (u64, String)>,
    given: u64,
    players: u64,
    calls: HashMap<String, u32>,
    /// Calls for which a token is good, as if its time were over then; none for any number.
    pub calls_max: Option<u32>,
    /// For how long one is good.
    pub expires_in_s: u32,
    /// The only protocol version that is spoken.
    pub protocol_version: u32,
}

impl Sessions {
    /// None yet; each is good for an hour.
    pub fn new() -> Self {
        Self {
            known: HashMap::new(),
            given: 0,
            players: 0,
            calls: HashMap::new(),
            calls_max: None,
            expires_in_s: 3_600,
            protocol_version: PROTOCOL_VERSION,
        }
    }

    /// Who a token is of.
    pub fn player(&self, resume: &str) -> Option<(u64, String)> {
        self.known.get(resume).cloned()
    }

    /// Who calls with a token, if it is good for one more call.
    pub fn caller(&mut self, resume: &str) -> Option<(u64, String)> {
        let calls = self.calls.entry(resume.to_owned()).or_default();
        *calls += 1;
        let is_good = self.calls_max.is_none_or(|calls_max| *calls <= calls_max);
        self.player(resume).filter(|_| is_good)
    }

    /// How many sessions were given.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// No session is known any more.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    fn give(&mut self, request: &SessionRequest) -> Result<SessionResponse, (u16, &'static str)> {
        if request.protocol_version != self.protocol_version {
            return Err((426, error_code::PROTOCOL_VERSION));
        }
        let (player, name) = match &request.resume {
            Some(resume) => self.player(resume).ok_or((401, error_code::BAD_RESUME))?,
            None => {
                self.players += 1;
                (self.players, request.name.clone())
            }
        };
        self.given += 1;
        let resume = format!("resume-{player}-{}", self.given);
        self.known.insert(resume.clone(), (player, name.clone()));
        Ok(SessionResponse {
            player_id: player,
            client_id: self.given,
            name,
            token: String::new(),
            gateway: "127.0.0.1:7700".to_owned(),
            expires_at_unix_s: 0,
            protocol_version: self.protocol_version,
            world_hash: String::new(),
            resume,
            resume_expires_in_s: self.expires_in_s,
        })
    }
}

/// Listens until the process ends, and tells where.
pub fn start(sessions: Arc<Mutex<Sessions>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            // A client that goes away in the middle is its own affair.
            let _ = answer(connection, &sessions);
        }
    });
    address
}

fn answer(connection: TcpStream, sessions: &Mutex<Sessions>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    assert!(first.starts_with(&format!("POST {SESSION_PATH} ")), "{first}");
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request: SessionRequest = serde_json::from_slice(&body).unwrap();
    let (status, json) = match sessions.lock().unwrap().give(&request) {
        Ok(session) => (200, serde_json::to_string(&session).unwrap()),
        Err((status, code)) => {
            let body = ErrorBody {
                code: code.to_owned(),
                message: format!("refused: {code}"),
            };
            (status, serde_json::to_string(&body).unwrap())
        }
    };
    let mut connection = connection;
    write!(
        connection,
        "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{json}",
        json.len()
    )
}
