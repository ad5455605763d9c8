//! One session with one peer: the socket, the clock, and what the state machine says.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::notification::Fault;
use super::route::Routes;
use super::session::{Action, Event, Session, SessionOptions, State};
use super::settings::{Peer, PeerAs};
use super::socket;
use super::stream::Stream;

/// Time for the last message of a session to be sent.
const FAREWELL_LIMIT: Duration = Duration::from_millis(500);

/// A session as others see it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerStatus {
    pub state: State,
    /// Milliseconds since 1970: when the state began.
    pub since_unix_ms: u64,
    /// Routes that the peer has of this node.
    pub routes: Routes,
    pub last_error: Option<String>,
    /// Why the peer does not get all routes.
    pub shortcoming: Option<String>,
    /// UPDATE messages since the start.
    pub updates: u64,
    /// Sessions that were established since the start.
    pub established: u64,
}

/// Channels of a session.
pub struct PeerInputs {
    pub peer: Peer,
    pub options: SessionOptions,
    pub routes: watch::Receiver<Routes>,
    /// Set when the peer shall forget this node.
    pub end: watch::Receiver<Option<Fault>>,
    pub statuses: watch::Sender<Statuses>,
}

/// The sessions of all peers, by name. A session writes its own entry while it has one.
pub type Statuses = BTreeMap<String, PeerStatus>;

type Connecting = Pin<Box<dyn Future<Output = anyhow::Result<TcpStream>> + Send>>;

/// Runs until it is ended.
pub async fn run(mut inputs: PeerInputs) {
    let now = Instant::now().into_std();
    let is_internal = match inputs.options.peer_as {
        PeerAs::Internal => true,
        PeerAs::Number(number) => number == inputs.options.local_as,
        PeerAs::External => false,
    };
    let mut session = Session::new(inputs.options.clone(), now, fastrand::u64(..));
    let mut rim = Rim {
        connecting: None,
        stream: None,
        received: Stream::default(),
        outgoing: Vec::new(),
        blocked_since: None,
    };
    let mut events = vec![Event::Routes(inputs.routes.borrow_and_update().clone())];
    let mut established = 0;
    loop {
        while let Some(event) = (!events.is_empty()).then(|| events.remove(0)) {
            let was = session.state();
            for action in session.handle(event, Instant::now().into_std()) {
                match action {
                    Action::Connect => {
                        let peer = inputs.peer.clone();
                        rim.connecting =
                            Some(Box::pin(async move { socket::connect(&peer, is_internal).await }));
                    }
                    Action::Send(octets) => rim.send(&octets),
                    Action::Close => rim.close().await,
                }
            }
            established += u64::from(was != State::Established && session.state() == State::Established);
        }
        publish(&inputs, &session, established);
        if inputs.end.borrow().is_some() {
            return;
        }
        let deadline = session.deadline().map(Instant::from_std);
        let send_limit = session.send_limit();
        let may_send_routes = rim.outgoing.is_empty();
        events = tokio::select! {
            biased;
            Ok(()) = inputs.end.changed() => {
                inputs.end.borrow_and_update().iter().map(|fault| Event::End(*fault)).collect()
            }
            // A peer that does not read gets the newest routes when it reads again, and not all those between.
            Ok(()) = inputs.routes.changed(), if may_send_routes => {
                vec![Event::Routes(inputs.routes.borrow_and_update().clone())]
            }
            () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {
                vec![Event::Time]
            }
            events = rim.turn(send_limit) => events,
        };
    }
}

/// The connection of a session.
struct Rim {
    connecting: Option<Connecting>,
    stream: Option<TcpStream>,
    received: Stream,
    /// Octets that are still to be sent.
    outgoing: Vec<u8>,
    /// Since then the peer has read nothing.
    blocked_since: Option<Instant>,
}

impl Rim {
    fn send(&mut self, octets: &[u8]) {
        self.outgoing.extend_from_slice(octets);
    }

    async fn close(&mut self) {
        self.connecting = None;
        if let Some(mut stream) = self.stream.take() {
            // The session is over in any case.
            let _ = timeout(FAREWELL_LIMIT, async {
                stream.write_all(&self.outgoing).await?;
                stream.shutdown().await
            })
            .await;
        }
        (self.received, self.blocked_since) = (Stream::default(), None);
        self.outgoing.clear();
    }

    /// Waits for the next thing to happen to the connection.
    async fn turn(&mut self, send_limit: Duration) -> Vec<Event> {
        if let Some(connecting) = &mut self.connecting {
            let connected = connecting.await;
            self.connecting = None;
            return match connected.and_then(|stream| Ok((stream.local_addr()?.ip(), stream))) {
                Ok((local, stream)) => {
                    self.stream = Some(stream);
                    vec![Event::Connected(local)]
                }
                Err(error) => vec![Event::Failed(format!("{error:#}"))],
            };
        }
        let Some(stream) = &mut self.stream else { return std::future::pending().await };
        let blocked_until = self.blocked_since.map(|since| since + send_limit);
        let (mut reader, mut writer) = stream.split();
        let mut octets = [0; Stream::ROOM];
        tokio::select! {
            read = reader.read(&mut octets) => match read {
                Ok(0) => vec![Event::Failed("the peer closed the connection".to_owned())],
                Err(error) => vec![Event::Failed(format!("reading: {error}"))],
                Ok(length) => {
                    self.received.push(&octets[..length]);
                    messages(&mut self.received)
                }
            },
            written = writer.write(&self.outgoing), if !self.outgoing.is_empty() => match written {
                Ok(length) => {
                    self.outgoing.drain(..length);
                    self.blocked_since = (!self.outgoing.is_empty()).then(Instant::now);
                    Vec::new()
                }
                Err(error) => vec![Event::Failed(format!("writing: {error}"))],
            },
            () = async { sleep_until(blocked_until.unwrap_or_else(Instant::now)).await }, if blocked_until.is_some() => {
                vec![Event::Failed(format!("the peer has read nothing for {} s", send_limit.as_secs()))]
            }
        }
    }
}

/// All messages that have been received whole.
fn messages(received: &mut Stream) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match received.next_message() {
            Ok(Some(message)) => events.push(Event::Received(message)),
            Ok(None) => return events,
            Err(fault) => {
                events.push(Event::Malformed(fault));
                return events;
            }
        }
    }
}

fn publish(inputs: &PeerInputs, session: &Session, established: u64) {
    let ago = Instant::now().into_std().saturating_duration_since(session.since());
    let began = SystemTime::now().checked_sub(ago).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let since = began.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or_default();
    inputs.statuses.send_if_modified(|all| {
        let Some(known) = all.get_mut(&inputs.peer.name) else { return false };
        let is_same_state = known.state == session.state() && known.established == established;
        let new = PeerStatus {
            state: session.state(),
            since_unix_ms: if is_same_state && known.since_unix_ms > 0 { known.since_unix_ms } else { since },
            routes: session.announced().clone(),
            last_error: session.last_error().map(str::to_owned),
            shortcoming: session.shortcoming(),
            updates: session.updates(),
            established,
        };
        let is_new = *known != new;
        *known = new;
        is_new
    });
}
