//! Cuts received octets into messages.

use super::message::{LONGEST, Message};
use super::notification::Fault;

/// Octets that are still to be read; less than one message of them is ever kept.
#[derive(Debug, Default)]
pub struct Stream(Vec<u8>);

impl Stream {
    /// Room of one read, in octets.
    pub const ROOM: usize = LONGEST;

    pub fn push(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    /// The next whole message. After a fault nothing more can be read.
    pub fn next_message(&mut self) -> Result<Option<Message>, Fault> {
        let Some((message, length)) = Message::decode(&self.0)? else { return Ok(None) };
        self.0.drain(..length);
        Ok(Some(message))
    }
}
