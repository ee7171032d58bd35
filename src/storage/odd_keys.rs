//! Keys in a bucket that `object_store` has no paths for: `a//b`, `./a`, `a/../b`, `/a`, or with a control character in them.
//! Others may have written such, and one of them would fail a whole list. In lists of S3's they are given a spelling that is a
//! path, which no key of ours has, so that they are seen and told of as foreign, and read by nobody: there is nothing under it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use quick_xml::escape::{escape, unescape};

/// What a page of a list has at most: a thousand of the longest keys, with all that is said of each, has some two megabytes.
const MOST_LIST_BYTES: usize = 32 << 20;

/// Makes clients whose lists have paths only.
#[derive(Debug, Default)]
pub(super) struct PathsOnly;

impl HttpConnector for PathsOnly {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Respelling(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct Respelling(HttpClient);

impl HttpService for Respelling {
    // As `async_trait` writes it, which is not here for this alone.
    fn call<'s, 'f>(
        &'s self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(self.answer(request))
    }
}

impl Respelling {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_list = request.method().as_str() == "GET"
            && request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "list-type=2"));
        let response = self.0.execute(request).await?;
        if !is_list || !response.status().is_success() {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let listed = collected(body.bytes_stream()).await?;
        let listed = match std::str::from_utf8(&listed).map(respelled) {
            Ok(Cow::Owned(text)) => Bytes::from(text),
            _ => listed,
        };
        head.headers.remove("content-length");
        Ok(HttpResponse::from_parts(head, listed.into()))
    }
}

async fn collected(mut pieces: impl Stream<Item = Result<Bytes, HttpError>> + Unpin) -> Result<Bytes, HttpError> {
    let mut collected = bytes::BytesMut::new();
    while let Some(piece) = pieces.try_next().await? {
        if collected.len() + piece.len() > MOST_LIST_BYTES {
            return Err(HttpError::new(HttpErrorKind::Decode, std::io::Error::other("the list is too large")));
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected.freeze())
}

/// A list with all its keys as paths. In XML nothing but a key lies between the marks of one.
fn respelled(list: &str) -> Cow<'_, str> {
    const BEGIN: &str = "<Key>";
    const END: &str = "</Key>";
    let (mut done, mut rest, mut is_changed) = (String::new(), list, false);
    while let Some((before, (key, after))) =
        rest.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)))
    {
        let path = unescape(key).ok().and_then(|key| path_of(&key));
        is_changed |= path.is_some();
        let key = path.as_ref().map_or(Cow::Borrowed(key), |path| escape(path.as_str()));
        done.extend([before, BEGIN, &key, END]);
        rest = after;
    }
    if !is_changed {
        return Cow::Borrowed(list);
    }
    done.push_str(rest);
    Cow::Owned(done)
}

/// The spelling of a key that is no path; `None` for one that is. That of a folder, with a slash at its end, is a path to
/// `object_store`.
fn path_of(key: &str) -> Option<String> {
    let whole = key.strip_suffix('/').unwrap_or(key);
    let is_odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(|c: char| c.is_ascii_control());
    if whole.is_empty() || !whole.split('/').any(is_odd) {
        return None;
    }
    let parts: Vec<String> =
        whole.split('/').map(|part| if is_odd(part) { spelled(part) } else { part.to_owned() }).collect();
    Some(parts.join("/"))
}

fn spelled(part: &str) -> String {
    let mut spelled = String::from("%");
    for c in part.chars() {
        if c.is_ascii_control() || c == '.' {
            // Writing to a string cannot fail.
            let _ = write!(spelled, "%{:02X}", u32::from(c));
        } else {
            spelled.push(c);
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

    #[test]
    fn every_key_gets_a_path_and_those_that_are_one_stay() {
        for key in ["tool/index.json", "@acme/tool/index.json", "-/users/%C3%A4nn.json", "a b+c", "folder/", "ä", ""] {
            assert_eq!(path_of(key), None, "{key}");
        }
        for (key, path) in [
            ("a//b", "a/%/b"),
            ("/a", "%/a"),
            ("a//", "a/%"),
            ("./a", "%%2E/a"),
            ("a/../b", "a/%%2E%2E/b"),
            ("a\u{1}b/c", "%a%01b/c"),
        ] {
            assert_eq!(path_of(key).as_deref(), Some(path));
            assert_eq!(Path::parse(path).unwrap().as_ref(), path);
        }
    }

    #[test]
    fn a_list_is_changed_in_its_odd_keys_alone() {
        let list =
            "<L><Contents><Key>a&amp;b</Key><Size>1</Size></Contents><Contents><Key>a//&lt;b</Key></Contents></L>";
        let expected = list.replace("a//&lt;b", "a/%/&lt;b");
        assert_eq!(respelled(list), expected);
        assert!(matches!(respelled("<L><Contents><Key>a&amp;b</Key></Contents></L>"), Cow::Borrowed(_)));
        assert!(matches!(respelled("<Key>a//b"), Cow::Borrowed(_)));
    }
}
