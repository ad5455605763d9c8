//! Passwords of TCP-MD5 (RFC 2385).

use std::fmt;
use std::path::PathBuf;

use super::BgpError;

/// Octets of the longest password (`TCP_MD5SIG_MAXKEYLEN`).
const LONGEST: usize = 80;

/// A password, which no log and no report shows.
#[derive(Clone, Eq, PartialEq)]
pub struct Password(String);

impl Password {
    /// An error if the kernel could not use it.
    pub fn new(text: String) -> Result<Self, BgpError> {
        (1..=LONGEST).contains(&text.len()).then_some(Self(text)).ok_or(BgpError::PasswordLength)
    }

    /// The password itself, for the kernel.
    pub fn octets(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Origin of a password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PasswordSource {
    Literal(Password),
    /// A file that is read before each connection. A line feed at its end is no part of the password.
    File(PathBuf),
}
