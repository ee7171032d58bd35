//! Which sinks there are, and what each wants to hear of.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::events::{Event, Kind};
use crate::npm::{PackageName, Pattern};
use crate::secret::Secret;

/// A sink as it was set.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// The operator's name for it: small letters, digits and `-`.
    pub name: String,
    /// What it is, and where.
    pub kind: SinkKind,
    /// What it is told.
    pub wants: Wants,
    /// For one request, from its start to the end of its answer.
    pub timeout: Duration,
    /// After so many failures in a row a message is given up and kept aside.
    pub tries: u32,
}

/// What a sink is, and where.
#[derive(Debug, Clone)]
pub enum SinkKind {
    /// What codebox called Insights, in its format.
    Insights {
        /// Where it is sent.
        url: Url,
        /// As whom.
        client_id: String,
        /// And with which secret.
        secret: Secret,
        /// The form of what `holdfast index` sends.
        index_format: IndexFormat,
    },
    /// Events as they are, signed.
    Webhook {
        /// Where they are sent.
        url: Url,
        /// What they are signed with.
        secret: Secret,
        /// Events of one request at most.
        batch: usize,
    },
    /// What the public registry sent for `npm hook`.
    NpmHook {
        /// Where it is sent.
        url: Url,
        /// What it is signed with.
        secret: Secret,
    },
    /// A topic of Amazon SNS.
    Sns {
        /// The topic.
        topic: Topic,
        /// In the place of the region's own address.
        endpoint: Option<Url>,
        /// The form of a message.
        format: SnsFormat,
    },
    /// What takes `{"text": …}`, as Slack, Mattermost and others do. The address is a secret.
    Slack {
        /// Where it is sent.
        url: Url,
    },
    /// Lines of JSON at the end of a file.
    File {
        /// Which.
        path: PathBuf,
    },
}

impl SinkKind {
    /// The word for it in the settings.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Insights { .. } => "insights",
            Self::Webhook { .. } => "webhook",
            Self::NpmHook { .. } => "npm-hook",
            Self::Sns { .. } => "sns",
            Self::Slack { .. } => "slack",
            Self::File { .. } => "file",
        }
    }
}

/// The form in which Insights is told of all packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexFormat {
    /// As codebox's `index` command did until the end: the credentials are in the body (the form of its 0.14).
    #[default]
    InBody,
    /// As of a publish: the credentials are in a header (since its 0.15).
    InHeader,
}

/// The form of a message to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnsFormat {
    /// The event as it is in the record.
    #[default]
    Event,
    /// As codebox published to `logTopic`, in its versions 0.8 to 0.12.
    Codebox,
}

/// A topic of Amazon SNS, by its ARN: `arn:aws:sns:REGION:ACCOUNT:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    arn: String,
    region: String,
    is_china: bool,
}

/// A text that names no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not the ARN of a topic, such as `arn:aws:sns:eu-west-1:123456789012:registry`")]
pub struct TopicError;

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let parts: Vec<&str> = text.split(':').collect();
        let [arn, partition, service, region, account, name] = parts.as_slice() else { return Err(TopicError) };
        let is_word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        let is_topic = *arn == "arn"
            && *service == "sns"
            && [partition, region, account, name].into_iter().all(|word| is_word(word));
        if !is_topic {
            return Err(TopicError);
        }
        Ok(Self { arn: text.to_owned(), region: (*region).to_owned(), is_china: *partition == "aws-cn" })
    }
}

impl Topic {
    /// The whole ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Where the topic is.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Whether it keeps an order, for which it wants to be told what belongs together.
    pub fn is_fifo(&self) -> bool {
        self.arn.strip_suffix(".fifo").is_some()
    }

    /// The address of SNS in the topic's region.
    pub fn address(&self) -> String {
        let suffix = if self.is_china { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://sns.{}.{suffix}/", self.region)
    }
}

/// A set of kinds of events: `*`, `package.*`, `package.publish`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Area {
    /// All, also kinds that a newer version writes.
    All,
    /// Those whose word begins so: `package.`.
    Below(String),
    /// This one.
    One(Kind),
}

/// A text that names no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no kind of event")]
pub struct AreaError;

impl Area {
    fn has(&self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::Below(start) => kind.as_str().starts_with(start.as_str()),
            Self::One(one) => *one == kind,
        }
    }
}

impl FromStr for Area {
    type Err = AreaError;

    fn from_str(text: &str) -> Result<Self, AreaError> {
        if text == "*" {
            return Ok(Self::All);
        }
        if let Some(start) = text.strip_suffix('*').filter(|start| start.ends_with('.')) {
            let area = Self::Below(start.to_owned());
            return if Kind::ALL.iter().any(|kind| area.has(*kind)) { Ok(area) } else { Err(AreaError) };
        }
        Kind::ALL.iter().find(|kind| kind.as_str() == text).map(|kind| Self::One(*kind)).ok_or(AreaError)
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Below(start) => write!(f, "{start}*"),
            Self::One(kind) => kind.fmt(f),
        }
    }
}

/// Which events a sink is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    /// Of these kinds.
    pub events: Vec<Area>,
    /// And of these packages. An event of no package is wanted only where all packages are.
    pub packages: Vec<Pattern>,
}

impl Default for Wants {
    fn default() -> Self {
        Self { events: vec![Area::Below("package.".to_owned())], packages: vec![Pattern::Any] }
    }
}

impl Wants {
    /// Whether it is told of an event.
    pub fn has(&self, event: &Event) -> bool {
        self.events.iter().any(|area| area.has(event.kind))
            && self.has_package(event.package.as_deref().and_then(|name| name.parse().ok()).as_ref())
    }

    /// Whether it is told of a package, or of something that is of none.
    pub(super) fn has_package(&self, package: Option<&PackageName>) -> bool {
        let is_wanted =
            |pattern: &Pattern| *pattern == Pattern::Any || package.is_some_and(|name| pattern.matches(name));
        self.packages.iter().any(is_wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Who;
    use crate::npm::Timestamp;

    fn wants(events: &[&str], packages: &[&str]) -> Wants {
        Wants {
            events: events.iter().map(|text| text.parse().unwrap()).collect(),
            packages: packages.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_sink_is_told_what_it_wants() {
        let event = |kind| Event::new(kind, Who::server(), Timestamp::from_millis(0));
        let of = |name: &str| event(Kind::Publish).of(&name.parse().unwrap());
        let all = ["**"];
        for (wants, event, expected) in [
            (Wants::default(), of("tool"), true),
            (Wants::default(), event(Kind::SignIn), false),
            (wants(&["*"], &all), event(Kind::SignIn), true),
            (wants(&["*"], &all), event(Kind::Unknown), true),
            (wants(&["package.*"], &all), event(Kind::Unknown), false),
            (wants(&["package.tag"], &all), of("tool"), false),
            (wants(&["package.publish", "policy.*"], &all), of("tool"), true),
            (wants(&["*"], &["@acme/*"]), of("@acme/tool"), true),
            (wants(&["*"], &["@acme/*", "tool"]), of("tool"), true),
            (wants(&["*"], &["@acme/*"]), of("tool"), false),
            (wants(&["*"], &["@acme/*"]), event(Kind::SignIn), false),
        ] {
            assert_eq!(wants.has(&event), expected, "{wants:?} {event:?}");
        }
        for text in ["", "package", "package.", "packag*", "nothing.*", "package.frobnicate", "unknown"] {
            assert_eq!(text.parse::<Area>(), Err(AreaError), "{text}");
        }
    }

    #[test]
    fn topics_are_known_by_their_arn() {
        let topic: Topic = "arn:aws:sns:eu-west-1:123456789012:registry".parse().unwrap();
        assert_eq!((topic.region(), topic.is_fifo()), ("eu-west-1", false));
        assert_eq!(topic.address(), "https://sns.eu-west-1.amazonaws.com/");
        assert!("arn:aws:sns:eu-west-1:123456789012:x.fifo".parse::<Topic>().unwrap().is_fifo());
        let china: Topic = "arn:aws-cn:sns:cn-north-1:1:x".parse().unwrap();
        assert_eq!(china.address(), "https://sns.cn-north-1.amazonaws.com.cn/");
        for text in ["", "registry", "arn:aws:sqs:eu-west-1:1:x", "arn:aws:sns:evil/../:1:x", "arn:aws:sns:eu:1:"] {
            assert!(text.parse::<Topic>().is_err(), "{text}");
        }
    }
}
