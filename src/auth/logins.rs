//! What waits for a person: sign-ins in the browser and on another device, confirmations of a change, invitations.
//!
//! Nothing of it is in memory: start, page and poll may each reach another replica. A pending login is one object under
//! the hash of its id, moved on by conditional writes. Its secrets are sealed with the id, which the store does not have:
//! the page's address carries it, and so does the poll's, together with a second secret that only the client that asks
//! has. The browser is bound by a cookie; OAuth's `state` and PKCE verifier are derived from it and stored nowhere.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use url::Url;

use super::caller::Source;
use super::github::unavailable;
use super::recorded::Way;
use super::second_factor::{Confirmation, confirmation_key};
use super::token::{Token, TokenOrigin, TokenRecord};
use super::tokens::later;
use super::{Auth, Error, Registration, read_json, seal, to_json};
use crate::events;
use crate::keys;
use crate::npm::Timestamp;
use crate::npm::integrity::sha256_hex;
use crate::providers::{self, DevicePoll};
use crate::random;
use crate::secret::Secret;
use crate::storage::{self, Change};

/// How long a person has.
const LASTS: Duration = Duration::from_mins(10);
/// How long the code of a confirmation is good for: the client sends its request again at once.
const CODE_LASTS: Duration = Duration::from_mins(5);
/// How often a client should ask whether the person is done.
pub const POLL_EVERY: Duration = Duration::from_secs(2);
/// The longest text of a client that is kept, in characters.
const MAX_SHOWN: usize = 100;
const SEALED_GITHUB: &str = "holdfast github token in login";
const SEALED_CODE: &str = "holdfast code in login";
const SEALED_DEVICE: &str = "holdfast device code in login";

/// Logins that begin within [`STARTS_WINDOW_MILLIS`], on this process.
const MAX_STARTS: u32 = 300;
const STARTS_WINDOW_MILLIS: i64 = 60_000;

/// Logins that began lately.
#[derive(Debug, Default)]
pub(super) struct Starts {
    since: i64,
    count: u32,
}

/// Who asks for a sign-in, as far as it can be told: shown to the person who is to say yes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asking {
    /// The name that the machine gave itself.
    pub machine: Option<String>,
    /// The address that the request came from.
    pub address: Option<IpAddr>,
    /// The client, such as `npm/11.4.1`.
    pub client: String,
}

impl Asking {
    /// From what a client says of itself: bounded, and without what could trick a reader.
    pub fn new(machine: Option<&str>, address: Option<IpAddr>, client: &str) -> Self {
        let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect::<String>();
        Self { machine: machine.map(shown).filter(|text| !text.is_empty()), address, client: shown(client) }
    }
}

/// A login that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Part of the page's address.
    pub id: String,
    /// For the client that polls, and nobody else.
    pub poll: String,
}

/// A device flow that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedDevice {
    /// What to poll with.
    pub login: Started,
    /// For the person to type.
    pub user_code: String,
    /// Where to type it.
    pub verification_uri: String,
    /// Between two polls.
    pub interval: Duration,
    /// For how long it can be typed.
    pub lasts: Duration,
}

/// A login as its page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Who asks.
    pub asking: Asking,
    /// When, RFC 3339.
    pub started: String,
    /// The change to confirm; `None` for a sign-in.
    pub change: Option<String>,
    /// How far it is.
    pub stage: Stage,
}

/// How far a login is, for one browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Nobody has signed in, or somebody did in another browser.
    SignIn,
    /// This browser has signed in, and has to say yes.
    Confirm {
        /// The account.
        user: String,
    },
    /// Said yes. With the code of a confirmation, for clients that ask for it.
    Confirmed {
        /// To be typed where the client asks for a one-time code.
        code: Option<String>,
    },
    /// Said no.
    Denied,
    /// The client has its token.
    Done,
}

/// What a poll gets.
#[derive(Debug)]
pub enum Poll {
    /// Not yet. Ask again after this.
    Wait(Duration),
    /// A token, or the code of a confirmation. Handed out once.
    Ready(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    expires: String,
    started: String,
    asking: Asking,
    kind: Kind,
    /// SHA-256 of the poll's secret.
    poll: String,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum Kind {
    SignIn,
    Confirm { user: String, subject: String, change: String },
    Device { sealed: String, interval_ms: i64, next_poll_ms: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum State {
    Waiting,
    /// Somebody has signed in.
    SignedIn {
        /// SHA-256 of the cookie.
        browser: String,
        who: Who,
    },
    Confirmed {
        browser: String,
        who: Who,
        /// The sealed code of a confirmation.
        code: Option<String>,
    },
    Denied,
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Who {
    name: String,
    /// The account's number at GitHub and its token, sealed.
    github: Option<(u64, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Invitation {
    expires: String,
    /// The name it is for; any name, where there is none.
    name: Option<String>,
    used: bool,
}

/// The only part that everything short-lived has in common.
#[derive(Debug, Deserialize)]
struct Expiring {
    expires: Option<String>,
}

fn key_of(id: &str) -> keys::Key {
    keys::login(&sha256_hex(id.as_bytes()))
}

fn hash(text: &str) -> String {
    sha256_hex(text.as_bytes())
}

/// Names and passwords come over the same form as those of strangers: neither may be longer than an id is.
fn is_id(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Auth {
    /// Begins a sign-in in the browser.
    pub async fn begin_login(&self, asking: Asking) -> Result<Started, Error> {
        self.begin(Kind::SignIn, asking).await
    }

    /// Begins the confirmation of a change by the person whose account it is.
    pub async fn begin_confirmation(
        &self,
        user: &str,
        subject: &str,
        change: String,
        asking: Asking,
    ) -> Result<Started, Error> {
        let kind = Kind::Confirm { user: user.to_owned(), subject: subject.to_owned(), change };
        self.begin(kind, asking).await
    }

    async fn begin(&self, kind: Kind, asking: Asking) -> Result<Started, Error> {
        self.admit_start()?;
        let started = Started { id: random::secret(), poll: random::secret() };
        self.create_pending(&started, kind, asking, LASTS).await?;
        Ok(started)
    }

    async fn create_pending(
        &self,
        started: &Started,
        kind: Kind,
        asking: Asking,
        lasts: Duration,
    ) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let pending = Pending {
            expires: later(now, lasts).to_string(),
            started: now.to_string(),
            asking,
            kind,
            poll: hash(&started.poll),
            state: State::Waiting,
        };
        Ok(self.inner.store.create(&key_of(&started.id), to_json(&pending)?).await?)
    }

    /// Begins a sign-in by a code that is typed at GitHub, for machines without a browser.
    pub async fn begin_device_login(&self, asking: Asking) -> Result<StartedDevice, Error> {
        self.admit_start()?;
        let github = self.github()?;
        let device = github.client.start_device(&github.scopes()).await.map_err(|error| device_error(&error))?;
        let started = Started { id: random::secret(), poll: random::secret() };
        let now = self.inner.clock.now();
        let interval_ms = i64::try_from(device.interval.as_millis()).unwrap_or(5_000);
        let kind = Kind::Device {
            sealed: seal::seal(device.device_code.expose(), &started.id, SEALED_DEVICE),
            interval_ms,
            next_poll_ms: now.as_millis() + interval_ms,
        };
        self.create_pending(&started, kind, asking, device.expires_in.min(LASTS * 3)).await?;
        Ok(StartedDevice {
            login: started,
            user_code: device.user_code,
            verification_uri: device.verification_uri,
            interval: device.interval,
            lasts: device.expires_in,
        })
    }

    /// Anybody may begin a login, and each is an object in the store: so only so many begin in a minute.
    fn admit_start(&self) -> Result<(), Error> {
        let now = self.inner.clock.now().as_millis();
        let mut starts = self.inner.starts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !(0..STARTS_WINDOW_MILLIS).contains(&(now - starts.since)) {
            *starts = Starts { since: now, count: 0 };
        }
        if starts.count >= MAX_STARTS {
            return Err(Error::Busy);
        }
        starts.count += 1;
        Ok(())
    }

    async fn pending(&self, id: &str) -> Result<Pending, Error> {
        if !is_id(id) {
            return Err(Error::NoLogin);
        }
        let pending: Pending = read_json(&self.inner.store, &key_of(id)).await?.ok_or(Error::NoLogin)?;
        if has_expired(Some(&pending.expires), self.inner.clock.now()) { Err(Error::NoLogin) } else { Ok(pending) }
    }

    /// What the page of a login shows to the browser with this cookie.
    pub async fn login_page(&self, id: &str, cookie: Option<&str>) -> Result<Shown, Error> {
        let pending = self.pending(id).await?;
        let browser_now = cookie.map(hash);
        let is_same = |browser: &String| browser_now.as_ref() == Some(browser);
        let (change, stage) = match (&pending.kind, &pending.state) {
            (Kind::Device { .. }, _) => return Err(Error::NoLogin),
            (kind, State::SignedIn { browser, who }) if is_same(browser) => {
                (change_of(kind), Stage::Confirm { user: who.name.clone() })
            }
            (kind, State::Confirmed { browser, code, .. }) if is_same(browser) => {
                let open = |sealed: &String| Some(seal::open(sealed, id, SEALED_CODE)?.expose().to_owned());
                (change_of(kind), Stage::Confirmed { code: code.as_ref().and_then(open) })
            }
            (kind, State::Denied) => (change_of(kind), Stage::Denied),
            (kind, State::Done) => (change_of(kind), Stage::Done),
            (kind, State::Waiting | State::SignedIn { .. } | State::Confirmed { .. }) => {
                (change_of(kind), Stage::SignIn)
            }
        };
        Ok(Shown { asking: pending.asking, started: pending.started, change, stage })
    }

    /// Whether people can sign in at GitHub in the browser.
    pub fn has_github_login(&self) -> bool {
        self.terms
            .settings
            .github
            .as_ref()
            .is_some_and(|github| github.client.client_id.is_some() && github.client.client_secret.is_some())
    }

    /// GitHub's page for a login, bound to the browser by its cookie.
    pub async fn github_page(&self, id: &str, cookie: &str, redirect: &str) -> Result<Url, Error> {
        self.pending(id).await?;
        let github = self.github()?;
        let verifier = seal::derive(cookie, &format!("pkce {id}"));
        let state = format!("{id}.{}", seal::derive(cookie, &format!("state {id}")));
        let challenge = s256(&verifier);
        github.client.authorize_url(&state, &challenge, redirect, &github.scopes()).map_err(|error| unavailable(&error))
    }

    /// Comes back from GitHub: checks that it is the browser that went there, exchanges the code, and finds out who it
    /// is. Returns the login's id.
    pub async fn return_from_github(
        &self,
        state: &str,
        code: Result<&str, &str>,
        cookie: Option<&str>,
        redirect: &str,
    ) -> Result<String, Error> {
        let (id, proof) = state.split_once('.').filter(|(id, _)| is_id(id)).ok_or(Error::ForeignBrowser)?;
        let cookie = cookie.ok_or(Error::ForeignBrowser)?;
        let expected = seal::derive(cookie, &format!("state {id}"));
        if !seal::constant_time_eq(proof.as_bytes(), expected.as_bytes()) {
            return Err(Error::ForeignBrowser);
        }
        let pending = self.pending(id).await?;
        let code = code.map_err(|why| Error::GitHubRefused(why.chars().take(MAX_SHOWN).collect()))?;
        let github = self.github()?;
        let verifier = seal::derive(cookie, &format!("pkce {id}"));
        let token = match github.client.exchange_code(code, &verifier, redirect).await {
            Ok(token) => token,
            Err(providers::Error::OAuth(code)) => return Err(Error::GitHubRefused(code)),
            Err(error) => return Err(unavailable(&error)),
        };
        let account = self.github_account_of(&token).await;
        let account = account.inspect_err(|error| self.note_refused_account(Way::Web, error))?;
        let sealed = seal::seal(token.expose(), id, SEALED_GITHUB);
        let who = Who { name: account.login.clone(), github: Some((account.id, sealed)) };
        self.signed_in(id, &pending.kind, cookie, who).await?;
        Ok(id.to_owned())
    }

    /// Signs a browser in by name and password.
    pub async fn login_with_password(
        &self,
        id: &str,
        cookie: &str,
        name: &str,
        password: String,
        code: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        let pending = self.pending(id).await?;
        // Who confirms a change has an account: another name is a slip of the hand.
        let may_register =
            matches!(pending.kind, Kind::SignIn) && self.terms.settings.registration == Registration::Open;
        let is_new = may_register && self.account(name).await?.is_none();
        let account = if is_new {
            self.register(name, password, "").await?
        } else {
            self.account_by_password(name, password, code, address).await?
        };
        self.signed_in(id, &pending.kind, cookie, Who { name: account.name, github: None }).await
    }

    async fn signed_in(&self, id: &str, kind: &Kind, cookie: &str, who: Who) -> Result<(), Error> {
        if let Kind::Confirm { user, .. } = kind
            && user.to_lowercase() != who.name.to_lowercase()
        {
            return Err(Error::OtherPerson { wanted: user.clone(), found: who.name });
        }
        let browser = hash(cookie);
        self.advance(id, move |pending| match pending.state {
            // Signing in once more, as somebody else perhaps, is no harm: nothing was confirmed.
            State::Waiting | State::SignedIn { .. } => {
                pending.state = State::SignedIn { browser, who };
                Ok(())
            }
            _ => Err(Error::NoLogin),
        })
        .await
    }

    /// What the confirming form has to send along.
    pub fn csrf(cookie: &str, id: &str) -> String {
        seal::derive(cookie, &format!("csrf {id}"))
    }

    /// The person has said yes or no.
    pub async fn decide(&self, id: &str, cookie: &str, csrf: &str, confirmed: bool) -> Result<(), Error> {
        if !seal::constant_time_eq(csrf.as_bytes(), Self::csrf(cookie, id).as_bytes()) {
            return Err(Error::ForeignBrowser);
        }
        let pending = self.pending(id).await?;
        let browser_now = hash(cookie);
        if !confirmed {
            return self
                .advance(id, move |pending| match std::mem::replace(&mut pending.state, State::Denied) {
                    State::SignedIn { browser, who } if browser == browser_now => Ok(who.name),
                    _ => Err(Error::ForeignBrowser),
                })
                .await
                .map(|name| self.note_not_let_in(&name, Way::Web, &Error::Denied));
        }
        // Before anything is written, so that a stranger who knows the address cannot fill the store.
        if !matches!(&pending.state, State::SignedIn { browser, .. } if *browser == browser_now) {
            return Err(Error::ForeignBrowser);
        }
        let code = match &pending.kind {
            Kind::Confirm { user, subject, .. } => {
                let code = random::typable();
                let confirmation = Confirmation {
                    expires: later(self.inner.clock.now(), CODE_LASTS).to_string(),
                    subject: subject.clone(),
                    used: false,
                };
                // Before the state, so that whoever sees the code can use it. Of no use to anybody when the next step fails.
                self.inner.store.create(&confirmation_key(user, &code), to_json(&confirmation)?).await?;
                Some(seal::seal(&code, id, SEALED_CODE))
            }
            Kind::SignIn | Kind::Device { .. } => None,
        };
        self.advance(id, move |pending| match pending.state.clone() {
            State::SignedIn { browser, who } if browser == browser_now => {
                pending.state = State::Confirmed { browser, who, code };
                Ok(())
            }
            _ => Err(Error::ForeignBrowser),
        })
        .await
    }

    /// Whether the person is done. `ticket` is `id.poll`. The token is handed out once.
    pub async fn poll(&self, ticket: &str) -> Result<Poll, Error> {
        let (id, secret) = ticket.split_once('.').filter(|(id, _)| is_id(id)).ok_or(Error::NoLogin)?;
        let pending = self.pending(id).await?;
        if !seal::constant_time_eq(pending.poll.as_bytes(), hash(secret).as_bytes()) {
            return Err(Error::NoLogin);
        }
        match &pending.state {
            State::Denied => Err(Error::Denied),
            State::Done => Err(Error::NoLogin),
            State::Waiting => match &pending.kind {
                Kind::Device { .. } => self.poll_device(id, pending).await,
                Kind::SignIn | Kind::Confirm { .. } => Ok(Poll::Wait(POLL_EVERY)),
            },
            State::SignedIn { .. } => Ok(Poll::Wait(POLL_EVERY)),
            State::Confirmed { .. } => self.hand_out(id).await,
        }
    }

    /// First takes the login, so that of two polls one gets the token, then makes it.
    async fn hand_out(&self, id: &str) -> Result<Poll, Error> {
        let (who, code) = self
            .advance(id, |pending| match std::mem::replace(&mut pending.state, State::Done) {
                State::Confirmed { who, code, .. } => Ok((who, code)),
                _ => Err(Error::NoLogin),
            })
            .await?;
        if let Some(sealed) = code {
            let code = seal::open(&sealed, id, SEALED_CODE).ok_or(Error::Damaged)?;
            return Ok(Poll::Ready(code.expose().to_owned()));
        }
        let token = match who.github {
            Some((github_id, sealed)) => {
                let secret = seal::open(&sealed, id, SEALED_GITHUB).ok_or(Error::Damaged)?;
                let account = self.github_account_of(&secret).await?;
                if account.id != github_id {
                    return Err(Error::NoLogin);
                }
                self.issue_for_github(&account, &secret, Way::Web).await?
            }
            None => self.issue_for_local(&who.name, Way::Web).await?,
        };
        Ok(Poll::Ready(token.reveal().to_owned()))
    }

    pub(super) async fn issue_for_local(&self, name: &str, way: Way) -> Result<Token, Error> {
        let record = TokenRecord::new(name, TokenOrigin::SignIn, self.inner.clock.now());
        self.issue_signed_in(record, None, way).await
    }

    async fn poll_device(&self, id: &str, pending: Pending) -> Result<Poll, Error> {
        let Kind::Device { sealed, interval_ms, next_poll_ms } = pending.kind else { return Err(Error::NoLogin) };
        let interval = Duration::from_millis(u64::try_from(interval_ms).unwrap_or(5_000));
        let now = self.inner.clock.now();
        if now.as_millis() < next_poll_ms {
            return Ok(Poll::Wait(interval));
        }
        let secret = seal::open(&sealed, id, SEALED_DEVICE).ok_or(Error::Damaged)?;
        let slower = match self.github()?.client.poll_device(&secret).await {
            Ok(DevicePoll::Done(token)) => return self.finish_device(id, &token).await,
            Ok(DevicePoll::Pending { slower }) => slower,
            Err(error) => return Err(device_error(&error)),
        };
        let interval = if slower { interval + Duration::from_secs(5) } else { interval };
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        self.advance(id, move |pending| {
            if let Kind::Device { interval_ms: stored, next_poll_ms, .. } = &mut pending.kind {
                *stored = interval_ms;
                *next_poll_ms = now.as_millis().saturating_add(interval_ms);
            }
            Ok(())
        })
        .await?;
        Ok(Poll::Wait(interval))
    }

    async fn finish_device(&self, id: &str, token: &Secret) -> Result<Poll, Error> {
        self.advance(id, |pending| {
            pending.state = State::Done;
            Ok(())
        })
        .await?;
        let account = self.github_account_of(token).await;
        let account = account.inspect_err(|error| self.note_refused_account(Way::Device, error))?;
        Ok(Poll::Ready(self.issue_for_github(&account, token, Way::Device).await?.reveal().to_owned()))
    }

    /// Moves a login on by a pure function: a conditional write.
    async fn advance<T: Send + 'static>(
        &self,
        id: &str,
        step: impl FnOnce(&mut Pending) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let change = move |stored: Option<Bytes>| {
            let bytes = stored.ok_or(Error::NoLogin)?;
            let mut pending: Pending = serde_json::from_slice(&bytes).map_err(|_| Error::Damaged)?;
            let value = step(&mut pending)?;
            Ok::<_, Error>(Change::Write(to_json(&pending)?, value))
        };
        Ok(self.inner.store.update(&key_of(id), change).await?)
    }

    /// Makes an invitation; its code is shown once.
    pub async fn invite(&self, name: Option<&str>, lasts: Duration) -> Result<String, Error> {
        if let Some(name) = name {
            super::account::check_user_name(name)?;
        }
        let code = random::secret();
        let invitation = Invitation {
            expires: later(self.inner.clock.now(), lasts).to_string(),
            name: name.map(ToOwned::to_owned),
            used: false,
        };
        self.inner.store.create(&keys::invitation(&hash(&code)), to_json(&invitation)?).await?;
        Ok(code)
    }

    /// The name that an invitation is for, where it is good.
    pub async fn invitation(&self, code: &str) -> Result<Option<String>, Error> {
        if !is_id(code) {
            return Err(Error::NoInvitation);
        }
        let found: Option<Invitation> = read_json(&self.inner.store, &keys::invitation(&hash(code))).await?;
        let now = self.inner.clock.now();
        let good = found.filter(|found| !found.used && !has_expired(Some(&found.expires), now));
        Ok(good.ok_or(Error::NoInvitation)?.name)
    }

    /// Makes an account by an invitation, which is used up by it.
    pub async fn accept_invitation(&self, code: &str, name: &str, password: String, email: &str) -> Result<(), Error> {
        let wanted = self.invitation(code).await?;
        if wanted.is_some_and(|wanted| wanted.to_lowercase() != name.to_lowercase()) {
            return Err(Error::NoInvitation);
        }
        super::account::check_user_name(name)?;
        super::account::check_password(&password)?;
        let (this, code, name, email) = (self.clone(), code.to_owned(), name.to_owned(), email.to_owned());
        // To the end, whatever becomes of the client: an account with an invitation that is still good would be two.
        self.change(None, async move { this.use_invitation(&code, &name, password, &email).await }).await
    }

    async fn use_invitation(&self, code: &str, name: &str, password: String, email: &str) -> Result<(), Error> {
        // The account first: an invitation that is used up without one would be lost.
        let account = self.create_account(name, password, email).await?;
        let use_up = |stored: Option<Bytes>| {
            let bytes = stored.ok_or(Error::NoInvitation)?;
            let invitation: Invitation = serde_json::from_slice(&bytes).map_err(|_| Error::Damaged)?;
            if invitation.used {
                return Err(Error::NoInvitation);
            }
            Ok(Change::Write(to_json(&Invitation { used: true, ..invitation })?, ()))
        };
        let outcome = self.inner.store.update(&keys::invitation(&hash(code)), use_up).await.map_err(Error::from);
        if matches!(outcome, Err(Error::NoInvitation)) {
            // Somebody else was quicker with the same invitation. After any other error it may be used up all the same, and
            // the account stays.
            self.remove_account(name).await?;
        }
        outcome?;
        let event = self.event(events::Kind::UserCreate, events::Who::user(&account.name));
        self.write_down(event.with("user", &account.name).with("invited", true)).await
    }

    /// Removes what has ended: logins, codes, invitations, tokens of CI jobs. Returns how many objects.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let mut keys = self.inner.store.list_folder(&keys::short_lived());
        let (now, mut removed) = (self.inner.clock.now(), 0);
        while let Some(key) = keys.recv().await {
            let key = key?;
            let stored = match self.inner.store.read(&key).await {
                Ok(stored) => stored,
                Err(storage::Error::NotFound) => continue,
                Err(error) => return Err(error.into()),
            };
            if has_ended(&stored, now) {
                match self.inner.store.delete(&key).await {
                    Ok(()) => removed += 1,
                    Err(storage::Error::NotFound) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(removed)
    }

    /// The account with this name and password, and a code where it has them on. Guesses are counted.
    pub(super) async fn account_by_password(
        &self,
        name: &str,
        password: String,
        code: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<super::Account, Error> {
        super::account::check_password(&password)?;
        let Some(account) = self.account(name).await?.filter(|account| account.source() == Source::Local) else {
            self.refuse_unknown(name, password, address).await?;
            return Err(Error::WrongPassword);
        };
        self.try_password(&account, password, address).await?;
        self.require_code(&account, code, address).await?;
        Ok(account)
    }
}

fn change_of(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Confirm { change, .. } => Some(change.clone()),
        Kind::SignIn | Kind::Device { .. } => None,
    }
}

/// Whether something short-lived, as it is stored, has ended. So has what cannot be read, since nobody could use it.
pub fn has_ended(stored: &[u8], now: Timestamp) -> bool {
    let expires = serde_json::from_slice(stored).ok().and_then(|found: Expiring| found.expires);
    has_expired(expires.as_ref(), now)
}

fn has_expired(text: Option<&String>, now: Timestamp) -> bool {
    text.and_then(|text| text.parse::<Timestamp>().ok()).is_none_or(|at| at.as_millis() <= now.as_millis())
}

/// PKCE's `S256` (RFC 7636, 4.2).
fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()))
}

fn device_error(error: &providers::Error) -> Error {
    match error {
        providers::Error::OAuth(code) => Error::GitHubRefused(code.clone()),
        other => unavailable(other),
    }
}
