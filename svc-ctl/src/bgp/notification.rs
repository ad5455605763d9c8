//! Errors that end a session, as a NOTIFICATION message carries them (RFC 4271, section 6).

use std::fmt;

/// Octets of a shutdown communication that are kept (RFC 9003 allows 255).
const LONGEST_TEXT: usize = 128;

/// The content of a NOTIFICATION message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Vec<u8>,
}

/// Errors that this speaker finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The marker of a header is not all ones.
    NotSynchronized,
    Length(u16),
    MessageType(u8),
    Version,
    PeerAs,
    Identifier,
    OptionalParameter,
    HoldTime,
    /// An OPEN message that is malformed otherwise.
    Open,
    AttributeList,
    HoldTimerExpired,
    /// A message that the state does not allow, by the state's subcode (RFC 6608).
    State(u8),
    Deconfigured,
}

impl From<Fault> for Notification {
    fn from(fault: Fault) -> Self {
        let (code, subcode, data) = match fault {
            Fault::NotSynchronized => (1, 1, Vec::new()),
            Fault::Length(length) => (1, 2, length.to_be_bytes().to_vec()),
            Fault::MessageType(kind) => (1, 3, vec![kind]),
            // The data are the supported version.
            Fault::Version => (2, 1, vec![0, 4]),
            Fault::PeerAs => (2, 2, Vec::new()),
            Fault::Identifier => (2, 3, Vec::new()),
            Fault::OptionalParameter => (2, 4, Vec::new()),
            Fault::HoldTime => (2, 6, Vec::new()),
            Fault::Open => (2, 0, Vec::new()),
            Fault::AttributeList => (3, 1, Vec::new()),
            Fault::HoldTimerExpired => (4, 0, Vec::new()),
            Fault::State(subcode) => (5, subcode, Vec::new()),
            Fault::Deconfigured => (6, 3, Vec::new()),
        };
        Self { code, subcode, data }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            1 => "message header error",
            2 => "OPEN message error",
            3 => "UPDATE message error",
            4 => "hold timer expired",
            5 => "finite state machine error",
            6 => "cease",
            7 => "ROUTE-REFRESH message error",
            _ => "unknown error",
        };
        let subcode = match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (3, 1) => "malformed attribute list",
            (3, 3) => "missing well-known attribute",
            (3, 8) => "invalid NEXT_HOP attribute",
            (3, 9) => "optional attribute error",
            (3, 11) => "malformed AS_PATH",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            _ => "",
        };
        write!(f, "{code}")?;
        if !subcode.is_empty() {
            write!(f, ": {subcode}")?;
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        match self.communication() {
            Some(text) => write!(f, ", {text:?}"),
            None => Ok(()),
        }
    }
}

impl Notification {
    /// The text that the other operator wrote for a shutdown or reset (RFC 9003).
    fn communication(&self) -> Option<String> {
        let (length, text) = self.data.split_first()?;
        let text = text.get(..usize::from(*length)).filter(|text| !text.is_empty())?;
        let is_of_operator = self.code == 6 && matches!(self.subcode, 2 | 4);
        let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST_TEXT)]);
        is_of_operator.then(|| text.into_owned())
    }
}
