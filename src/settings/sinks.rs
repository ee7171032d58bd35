//! Sinks in the making: which keys each kind takes, and which it cannot do without.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::is_loopback_host;
use crate::secret::Secret;
use crate::sinks::{IndexFormat, SinkKind, SinkSettings, SnsFormat, Topic, Wants};

/// Where codebox sent what happened.
const INSIGHTS: &str = "https://log.codebox.sh/v1/send";
const TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 20;
const BATCH: usize = 50;

/// The kind as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KindWord {
    Insights,
    Webhook,
    NpmHook,
    Sns,
    Slack,
    File,
}

impl FromStr for KindWord {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "insights" => Self::Insights,
            "webhook" => Self::Webhook,
            "npm-hook" => Self::NpmHook,
            "sns" => Self::Sns,
            "slack" => Self::Slack,
            "file" => Self::File,
            _ => return Err(()),
        })
    }
}

/// What was set of a sink so far.
#[derive(Debug, Default)]
pub(super) struct SinkDraft {
    pub(super) kind: Option<KindWord>,
    pub(super) url: Option<Url>,
    pub(super) secret: Option<Secret>,
    pub(super) client_id: Option<String>,
    pub(super) topic: Option<Topic>,
    pub(super) path: Option<PathBuf>,
    pub(super) format: Option<SnsFormat>,
    pub(super) index_format: Option<IndexFormat>,
    pub(super) batch: Option<usize>,
    pub(super) wants: Wants,
    pub(super) timeout: Option<Duration>,
    pub(super) tries: Option<u32>,
    pub(super) allow_http: bool,
}

impl SinkDraft {
    /// The sink, or all that is wrong with it.
    pub(super) fn finish(mut self, name: &str) -> Result<SinkSettings, Vec<String>> {
        let mut mistakes = Vec::new();
        let kind = self.take_kind(name, &mut mistakes);
        let left = [
            ("url", self.url.is_some()),
            ("secret", self.secret.is_some()),
            ("client_id", self.client_id.is_some()),
            ("topic", self.topic.is_some()),
            ("path", self.path.is_some()),
            ("format", self.format.is_some()),
            ("index_format", self.index_format.is_some()),
            ("batch", self.batch.is_some()),
        ];
        if let Some(kind) = &kind {
            let of_no_use = left.iter().filter(|(_, is_left)| *is_left);
            let word = kind.as_str();
            mistakes
                .extend(of_no_use.map(|(key, _)| format!("`sinks.{name}.{key}` means nothing for the kind `{word}`")));
        }
        let timeout = self.timeout.unwrap_or(TIMEOUT);
        let tries = self.tries.unwrap_or(TRIES);
        match kind {
            Some(kind) if mistakes.is_empty() => {
                Ok(SinkSettings { name: name.to_owned(), kind, wants: self.wants, timeout, tries })
            }
            _ => Err(mistakes),
        }
    }

    /// Takes what a kind needs and may have.
    fn take_kind(&mut self, name: &str, mistakes: &mut Vec<String>) -> Option<SinkKind> {
        fn needed<T>(key: &str, name: &str, value: Option<T>, mistakes: &mut Vec<String>) -> Option<T> {
            if value.is_none() {
                mistakes.push(format!("`sinks.{name}.{key}` is missing"));
            }
            value
        }
        let kind = needed("kind", name, self.kind, mistakes)?;
        let url = self.take_url(name, mistakes);
        match kind {
            KindWord::File => {
                self.url = url;
                Some(SinkKind::File { path: needed("path", name, self.path.take(), mistakes)? })
            }
            KindWord::Slack => Some(SinkKind::Slack { url: needed("url", name, url, mistakes)? }),
            KindWord::Webhook => {
                let url = needed("url", name, url, mistakes);
                let secret = needed("secret", name, self.secret.take(), mistakes);
                Some(SinkKind::Webhook { url: url?, secret: secret?, batch: self.batch.take().unwrap_or(BATCH) })
            }
            KindWord::NpmHook => {
                let url = needed("url", name, url, mistakes);
                let secret = needed("secret", name, self.secret.take(), mistakes);
                Some(SinkKind::NpmHook { url: url?, secret: secret? })
            }
            KindWord::Sns => {
                let topic = needed("topic", name, self.topic.take(), mistakes)?;
                Some(SinkKind::Sns { topic, endpoint: url, format: self.format.take().unwrap_or_default() })
            }
            KindWord::Insights => {
                let client_id = needed("client_id", name, self.client_id.take(), mistakes);
                let secret = needed("secret", name, self.secret.take(), mistakes);
                let url = url.or_else(|| INSIGHTS.parse().ok())?;
                let index_format = self.index_format.take().unwrap_or_default();
                Some(SinkKind::Insights { url, client_id: client_id?, secret: secret?, index_format })
            }
        }
    }

    /// The address, if nobody on the line can read along.
    fn take_url(&mut self, name: &str, mistakes: &mut Vec<String>) -> Option<Url> {
        let url = self.url.take()?;
        if url.scheme() == "http" && !self.allow_http && !is_loopback_host(&url) {
            mistakes.push(format!(
                "`sinks.{name}.url` must be https: what is told could be read on the way; `allow_http = true` says that it may"
            ));
        }
        Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Settings};

    /// The settings, or the mistakes in one text.
    fn load(values: &[(&str, &str)]) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let data = ("HOLDFAST__STORAGE__DIRECTORY".to_owned(), directory.path().display().to_string());
        let variable = |(name, value): &(&str, &str)| (format!("HOLDFAST__SINKS__{name}"), (*value).to_owned());
        let environment = std::iter::once(data).chain(values.iter().map(variable)).collect();
        let flags = Flags { file: None, values: Vec::new() };
        let loaded = Settings::load_with(&flags, environment)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        assert!(loaded.shown.iter().all(|line| !line.value.contains("hush")));
        Ok(loaded.settings)
    }

    #[test]
    fn each_kind_says_what_it_lacks_and_what_is_of_no_use_to_it() {
        for (values, expected) in [
            (&[("A__KIND", "carrier-pigeon")][..], "`sinks.a.kind`: `carrier-pigeon` is not"),
            (&[("A__SECRET", "hush")], "`sinks.a.kind` is missing"),
            (&[("A__KIND", "webhook"), ("A__URL", "https://x.example/")], "`sinks.a.secret` is missing"),
            (&[("A__KIND", "webhook"), ("A__SECRET", "hush")], "`sinks.a.url` is missing"),
            (&[("A__KIND", "slack"), ("A__URL", "http://x.example/hush")], "`sinks.a.url` must be https"),
            (&[("A__KIND", "slack"), ("A__URL", "https://u:hush@x.example/")], "`sinks.a.url`: must have neither"),
            (
                &[("A__KIND", "file"), ("A__PATH", "/x"), ("A__URL", "https://x.example/")],
                "`sinks.a.url` means nothing",
            ),
            (&[("A__KIND", "file"), ("A__PATH", "/x"), ("A__SECRET", "hush")], "`sinks.a.secret` means nothing"),
            (&[("A__KIND", "sns"), ("A__TOPIC", "registry")], "`sinks.a.topic`: `registry` is not"),
            (&[("A__KIND", "insights"), ("A__SECRET", "hush")], "`sinks.a.client_id` is missing"),
            (&[("A__KIND", "file"), ("A__PATH", "/x"), ("A__EVENTS", "package.frobnicate")], "`sinks.a.events`"),
            (&[("A.B__KIND", "file")], "is not a setting"),
        ] {
            let mistakes = load(values).unwrap_err();
            assert!(mistakes.contains(expected), "{values:?}: {mistakes}");
            assert!(!mistakes.contains("hush"), "{mistakes}");
        }
    }

    #[test]
    fn several_sinks_are_set_by_variables() {
        let settings = load(&[
            ("A_B__KIND", "webhook"),
            ("A_B__URL", "http://127.0.0.1:9/hook?x=y"),
            ("A_B__SECRET", "hush"),
            ("A_B__EVENTS", "package.publish,policy.*"),
            ("A_B__PACKAGES", "@acme/*"),
            ("OPEN__KIND", "slack"),
            ("OPEN__URL", "http://chat.internal/hush"),
            ("OPEN__ALLOW_HTTP", "true"),
            ("OLD__KIND", "insights"),
            ("OLD__CLIENT_ID", "id"),
            ("OLD__SECRET", "hush"),
        ])
        .unwrap();
        let names: Vec<_> = settings.sinks.iter().map(|sink| (sink.name.as_str(), sink.kind.as_str())).collect();
        assert_eq!(names, [("a-b", "webhook"), ("old", "insights"), ("open", "slack")]);
        assert_eq!(settings.sinks[0].wants.events.len(), 2);
    }
}
