//! Heads of HTTP/1 messages to and from backends, written and read by hand. Pure.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use httparse::Status;

use super::error::Failure;

/// The most bytes of an answer's head.
pub(super) const MOST: usize = 64 * 1024;
/// The most field lines of an answer.
const MAX_FIELDS: usize = 100;
/// What most requests fit into.
const USUAL: usize = 512;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// HTTP/1.1, not 1.0.
    pub(super) is_1_1: bool,
    pub(super) fields: HeaderMap,
}

/// The head of a request as it goes over the wire, the same to every backend.
pub(super) fn encode(method: &Method, uri: &Uri, fields: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(USUAL);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    // A whole URL may have a query without a path; a request line may not (RFC 9112 section 3.2.1).
    let root = if target.starts_with('?') { "/" } else { "" };
    for piece in [method.as_str(), " ", root, target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(piece.as_bytes());
    }
    for (name, value) in fields {
        // Neither can hold the end of a line: their types see to it.
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(piece);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The status of an answer's head and its length in bytes; `None`: it is not complete.
///
/// # Errors
/// It is no HTTP, or a 101 that cannot be one.
pub(super) fn beginning(bytes: &[u8]) -> Result<Option<(StatusCode, usize)>, Failure> {
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(bytes, |length, answer| {
        let status = status(answer)?;
        if status == StatusCode::SWITCHING_PROTOCOLS && answer.version != Some(1) {
            return Err(Failure::Unreadable("the answer is not HTTP/1.1"));
        }
        Ok((status, length))
    })
}

/// A head that ends with these bytes, whose memory its fields share; `None`: it ends elsewhere.
///
/// # Errors
/// It is no HTTP.
pub(super) fn whole(bytes: &Bytes) -> Result<Option<Head>, Failure> {
    let head = parse(bytes, |length, answer| {
        if length != bytes.len() {
            return Ok(None);
        }
        let mut fields = HeaderMap::with_capacity(answer.headers.len());
        for field in answer.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Failure::Unreadable("a field of the answer is none"));
            };
            fields.append(name, value);
        }
        Ok(Some(Head { status: status(answer)?, is_1_1: answer.version == Some(1), fields }))
    })?;
    Ok(head.flatten())
}

fn status(answer: &httparse::Response<'_, '_>) -> Result<StatusCode, Failure> {
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or(Failure::Unreadable("the answer has no status"))
}

fn parse<T>(
    bytes: &[u8],
    then: impl FnOnce(usize, &httparse::Response<'_, '_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut answer, bytes, &mut fields);
    match parsed {
        Ok(Status::Partial) => Ok(None),
        Ok(Status::Complete(length)) => then(length, &answer).map(Some),
        Err(httparse::Error::TooManyHeaders) => Err(Failure::Unreadable("the answer has too many fields")),
        Err(_) => Err(Failure::Unreadable("the answer is no HTTP")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    #[test]
    fn a_request_is_written_as_it_is_meant() {
        let request = Request::get("http://ignored/chat?room=1")
            .header("host", "a:81")
            .header("x-twice", "1")
            .header("x-twice", "2")
            .body(())
            .unwrap();
        let head = encode(request.method(), request.uri(), request.headers());
        let expected = "GET /chat?room=1 HTTP/1.1\r\nhost: a:81\r\nx-twice: 1\r\nx-twice: 2\r\n\r\n";
        assert_eq!(String::from_utf8(head).unwrap(), expected);
        let pathless = Request::get("http://ignored?room=1").body(()).unwrap();
        let head = encode(pathless.method(), pathless.uri(), pathless.headers());
        assert_eq!(String::from_utf8(head).unwrap(), "GET /?room=1 HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn a_head_is_complete_with_its_last_byte_and_not_before() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX: \r\n\r\n";
        for n in 0..answer.len() {
            assert!(beginning(&answer[..n]).unwrap().is_none(), "{n} bytes");
            assert!(whole(&Bytes::copy_from_slice(&answer[..n])).unwrap().is_none(), "{n} bytes");
        }
        let behind = [&answer[..], b"frames"].concat();
        assert_eq!(beginning(&behind).unwrap(), Some((StatusCode::SWITCHING_PROTOCOLS, answer.len())));
        assert!(whole(&Bytes::from(behind)).unwrap().is_none(), "it ends before");
        let fields = whole(&Bytes::from_static(answer)).unwrap().unwrap().fields;
        let value = |name: &str| fields[name].to_str().unwrap().to_owned();
        assert_eq!((fields.len(), value("upgrade"), value("x")), (2, "websocket".to_owned(), String::new()));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let many = format!("HTTP/1.1 101 Yes\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        for bad in ["SSH-2.0-OpenSSH", "HTTP/1.0 101 Yes\r\n\r\n", "HTTP/1.1 101 Yes\r\nA : b\r\n\r\n", &many] {
            assert!(beginning(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
