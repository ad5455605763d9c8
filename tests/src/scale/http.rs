//! The part of HTTP/1.1 that a Kubernetes client needs: requests with a body, responses whole or in chunks.

use std::io::{self, BufRead, Read as _, Write};

/// A request with its body read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    parameters: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// `None` if the client closed the connection.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            parameters: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: Vec::new(),
        };
        let mut length = 0;
        loop {
            let mut header = String::new();
            if from.read_line(&mut header)? == 0 {
                return Ok(None);
            }
            let Some((name, value)) = header.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        from.take(length).read_to_end(&mut request.body)?;
        Ok(Some(request))
    }

    /// A query parameter without unescaping; the values in use are never escaped.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }
}

/// Writes a whole response.
pub fn answer(to: &mut impl Write, status: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    to.write_all(&[head.as_bytes(), body].concat())
}

/// Writes the head of a chunked response.
pub fn begin_chunks(to: &mut impl Write) -> io::Result<()> {
    to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
}

/// Appends one chunk to the buffer. An empty chunk ends the response.
pub fn push_chunk(buffer: &mut Vec<u8>, data: &[u8]) {
    buffer.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    buffer.extend_from_slice(data);
    buffer.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_parameters_and_body_and_the_next_one_after_it() {
        let text = b"POST /a/b?watch=true&limit=500 HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\n{1}GET / HTTP/1.1\r\n\r\n";
        let mut from = io::Cursor::new(text);
        let first = Request::read(&mut from).unwrap().unwrap();
        assert_eq!(
            (first.method.as_str(), first.path.as_str(), first.body.as_slice()),
            ("POST", "/a/b", b"{1}".as_slice())
        );
        assert!(
            first.is_set("watch") && first.parameter("limit") == Some("500") && !first.is_set("continue")
        );
        assert_eq!(Request::read(&mut from).unwrap().unwrap().path, "/");
        assert_eq!(Request::read(&mut from).unwrap(), None);
    }

    #[test]
    fn a_chunk_has_its_length_before_it() {
        let mut buffer = Vec::new();
        push_chunk(&mut buffer, &[b'x'; 17]);
        assert!(buffer.starts_with(b"11\r\nxx") && buffer.ends_with(b"x\r\n"));
    }
}
