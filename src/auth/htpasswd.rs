//! Accounts that come from an htpasswd file, as Apache and Verdaccio keep them: reading the file, and checking a
//! password against the hashes in it.
//!
//! A hash is taken over as it is and replaced by one of ours when its account signs in
//! ([`super::Passwords::needs_rehash`]). What a check may cost is decided when a line is read: nothing in the file can
//! make one take minutes.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use sha_crypt::{PasswordVerifier as _, ShaCrypt};

use super::account::check_user_name;
use super::seal::constant_time_eq;

/// More lines than that are not looked at.
const MAX_LINES: usize = 100_000;
/// More mistakes than that are not told one by one.
const MAX_MISTAKES: usize = 1_000;
/// The longest hash (SHA-512-crypt) has 123 letters, a name 214, Verdaccio's date 40.
const MAX_LINE_BYTES: usize = 1_024;
/// bcrypt's cost: 2^15 takes seconds.
const MAX_BCRYPT_COST: u32 = 15;
/// Rounds of SHA-crypt: fewer than a thousand are not allowed by its text, a million take about a second.
const SHA_CRYPT_ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
/// The letters of crypt's base64, in the order of their values.
const CRYPT64: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A line that can be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The account's name.
    pub(crate) name: String,
    /// The password's hash, in a form that [`super::Passwords::verify`] knows.
    pub(crate) hash: String,
    /// The line's number, from one.
    pub(crate) line: usize,
}

/// A line that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The line's number, from one.
    pub(crate) line: usize,
    /// What is wrong and what to do, for a person. Never has anything of the line in it.
    pub(crate) why: String,
}

/// How a password in an htpasswd file can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `$2a$`, `$2b$`, `$2y$`: htpasswd -B, and Verdaccio's default.
    Bcrypt,
    /// `$apr1$`: htpasswd's default. A thousand rounds of MD5.
    Apr1,
    /// `$1$`: the same with another name, from crypt(3).
    Md5Crypt,
    /// `{SHA}`: htpasswd -s. SHA-1 without salt.
    Sha1,
    /// `$5$` and `$6$`: htpasswd -2 and -5.
    ShaCrypt,
}

/// Reads a file: the lines that can be imported, and what is wrong with each of the others, both in order. Comments
/// (`#`) and blank lines are neither. What follows a second colon (Verdaccio writes `:autocreated` and a date) is
/// left out.
pub(crate) fn parse(text: &str) -> (Vec<Entry>, Vec<Mistake>) {
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    let mut first_lines = std::collections::HashMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, content) in (1..).zip(text.lines()) {
        let stop = if line > MAX_LINES {
            Some(format!(
                "The file has more than {MAX_LINES} lines: split it. This line and those after it were not read."
            ))
        } else if mistakes.len() >= MAX_MISTAKES {
            Some(format!("{MAX_MISTAKES} lines cannot be imported: this line and those after it were not read."))
        } else {
            None
        };
        if let Some(why) = stop {
            mistakes.push(Mistake { line, why });
            break;
        }
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        match parse_line(content) {
            Err(why) => mistakes.push(Mistake { line, why }),
            Ok((name, hash)) => match first_lines.entry(name) {
                // Apache takes the first.
                std::collections::hash_map::Entry::Occupied(first) => mistakes.push(Mistake {
                    line,
                    why: format!("This name is on line {} already, and that one counts.", first.get()),
                }),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(line);
                    entries.push(Entry { name: name.to_owned(), hash: hash.to_owned(), line });
                }
            },
        }
    }
    (entries, mistakes)
}

fn parse_line(line: &str) -> Result<(&str, &str), String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("The line has more than {MAX_LINE_BYTES} bytes: it is none of an htpasswd file."));
    }
    let Some((name, rest)) = line.split_once(':') else {
        return Err("The line has no colon: it should be a name, a colon and a hash.".to_owned());
    };
    check_user_name(name)
        .map_err(|_| "This cannot be the name of an account here: make one with another name.".to_owned())?;
    let hash = rest.split(':').next().unwrap_or_default();
    form_of(hash)?;
    Ok((name, hash))
}

/// How this was hashed, or why it is not taken.
fn form_of(hash: &str) -> Result<Form, String> {
    if hash.is_empty() {
        return Err("The line has no hash: set a password with `htpasswd -B FILE NAME` and import again.".to_owned());
    }
    let is_crypt64 = |text: &str| text.bytes().all(|byte| CRYPT64.contains(&byte));
    let damaged = |what: &str| format!("This begins like {what} and is none: the line is damaged.");
    if let Some(digest) = hash.strip_prefix("{SHA}") {
        let is_one = STANDARD.decode(digest).is_ok_and(|bytes| bytes.len() == 20);
        return if is_one { Ok(Form::Sha1) } else { Err(damaged("a SHA-1 hash")) };
    }
    if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
        return bcrypt_form(hash);
    }
    for (prefix, form) in [("$apr1$", Form::Apr1), ("$1$", Form::Md5Crypt)] {
        if let Some(rest) = hash.strip_prefix(prefix) {
            let is_one = rest
                .split_once('$')
                .is_some_and(|(salt, sum)| salt.len() <= 8 && is_crypt64(salt) && sum.len() == 22 && is_crypt64(sum));
            return if is_one { Ok(form) } else { Err(damaged("an MD5 hash")) };
        }
    }
    for (prefix, letters) in [("$5$", 43), ("$6$", 86)] {
        if let Some(rest) = hash.strip_prefix(prefix) {
            return sha_crypt_form(rest, letters);
        }
    }
    if hash.len() == 13 && is_crypt64(hash) {
        return Err(
            "This looks like a hash of the old crypt(3) with DES, which keeps no password secret today and is not \
                    taken: set a new password with `htpasswd -B FILE NAME` and import again."
                .to_owned(),
        );
    }
    Err("The password is in clear text, or hashed in a way that is not known here: set a new one with \
         `htpasswd -B FILE NAME` and import again."
        .to_owned())
}

fn bcrypt_form(hash: &str) -> Result<Form, String> {
    let parts: bcrypt::HashParts =
        hash.parse().map_err(|_| "This begins like a bcrypt hash and is none: the line is damaged.")?;
    if parts.get_cost() > MAX_BCRYPT_COST {
        return Err(format!(
            "The bcrypt hash has cost {}, and a check would take too long: set the password with a cost of at most \
             {MAX_BCRYPT_COST} (`htpasswd -B -C 12 FILE NAME`) and import again.",
            parts.get_cost()
        ));
    }
    Ok(Form::Bcrypt)
}

/// `rest` is what follows `$5$` or `$6$`; `letters` is how long the hash itself is.
fn sha_crypt_form(rest: &str, letters: usize) -> Result<Form, String> {
    let damaged = || "This begins like a SHA-crypt hash and is none: the line is damaged.".to_owned();
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        Some(rest) => rest.split_once('$').map(|(rounds, rest)| (Some(rounds), rest)).ok_or_else(damaged)?,
        None => (None, rest),
    };
    if let Some(rounds) = rounds {
        let rounds: u32 = rounds.parse().map_err(|_| damaged())?;
        if !SHA_CRYPT_ROUNDS.contains(&rounds) {
            return Err(format!(
                "The hash has {rounds} rounds, and only {} to {} are taken: set the password again and import again.",
                SHA_CRYPT_ROUNDS.start(),
                SHA_CRYPT_ROUNDS.end()
            ));
        }
    }
    let is_one = rest.split_once('$').is_some_and(|(salt, sum)| {
        let known = |text: &str| text.bytes().all(|byte| CRYPT64.contains(&byte));
        (1..=16).contains(&salt.len()) && known(salt) && sum.len() == letters && known(sum)
    });
    if is_one { Ok(Form::ShaCrypt) } else { Err(damaged()) }
}

/// Whether the password is the one that was hashed. A text that [`parse`] would not take matches nothing. Slow: not
/// for async threads.
pub(super) fn verify(password: &str, hash: &str) -> bool {
    match form_of(hash) {
        Err(_) => false,
        Ok(Form::Bcrypt) => bcrypt::verify(password, hash).unwrap_or(false),
        Ok(Form::Apr1) => is_md5_crypt(password, hash, "$apr1$"),
        Ok(Form::Md5Crypt) => is_md5_crypt(password, hash, "$1$"),
        Ok(Form::ShaCrypt) => ShaCrypt::SHA512.verify_password(password.as_bytes(), hash).is_ok(),
        Ok(Form::Sha1) => {
            let sum = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()));
            hash.strip_prefix("{SHA}").is_some_and(|stored| constant_time_eq(stored.as_bytes(), sum.as_bytes()))
        }
    }
}

fn is_md5_crypt(password: &str, hash: &str, magic: &str) -> bool {
    let Some((salt, stored)) = hash.strip_prefix(magic).and_then(|rest| rest.split_once('$')) else { return false };
    constant_time_eq(md5_crypt(password.as_bytes(), salt.as_bytes(), magic.as_bytes()).as_bytes(), stored.as_bytes())
}

/// Poul-Henning Kamp's hash of FreeBSD 2.0, and Apache's of it, which has another `magic`. The steps are those of
/// `crypt-md5.c` of FreeBSD and of `apr_md5_encode`; their oddities are part of it.
fn md5_crypt(password: &[u8], salt: &[u8], magic: &[u8]) -> String {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut start = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    start.update(inner.iter().copied().cycle().take(password.len()).collect::<Vec<u8>>());
    // For each bit of the length, lowest first: a zero byte, or the password's first.
    let mut length = password.len();
    while length > 0 {
        start.update(if length & 1 == 1 { &[0] } else { &password[..1] });
        length >>= 1;
    }
    let mut sum = start.finalize();
    for round in 0..1_000 {
        let is_odd = round % 2 == 1;
        let mut next = Md5::new();
        next.update(if is_odd { password } else { &sum });
        next.update(if round % 3 == 0 { &[] } else { salt });
        next.update(if round % 7 == 0 { &[] } else { password });
        next.update(if is_odd { &sum } else { password });
        sum = next.finalize();
    }
    let groups = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)];
    let mut text = String::with_capacity(22);
    for (high, middle, low) in groups {
        push_crypt64(&mut text, [sum[high], sum[middle], sum[low]], 4);
    }
    push_crypt64(&mut text, [0, 0, sum[11]], 2);
    text
}

/// Three bytes in letters of six bits each, lowest first.
fn push_crypt64(text: &mut String, [high, middle, low]: [u8; 3], letters: usize) {
    let mut bits = u32::from_be_bytes([0, high, middle, low]);
    for _ in 0..letters {
        text.push(char::from(CRYPT64[usize::from(bits.to_be_bytes()[3] & 63)]));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse";
    /// Made with `openssl passwd`, with `htpasswd` 2.4.x and with crypt(3) of glibc and libxcrypt, through Python.
    const HASHES: &[(Form, &str)] = &[
        (Form::Bcrypt, "$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
        (Form::Bcrypt, "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
        (Form::Bcrypt, "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
        (Form::Apr1, "$apr1$r31abcde$bLMECPkG822DraFf9Cs4Z/"),
        (Form::Md5Crypt, "$1$saltsalt$NuzA7WTAelpl95xgBGWN60"),
        (Form::Sha1, "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A="),
        (Form::ShaCrypt, "$5$saltstringsalt1$ASFlBZK0GOdYh0vsKeAUYTLI7a0loXVwOsj781kkNPC"),
        (Form::ShaCrypt, "$5$rounds=1400$anotherlong$ClCy35lzhj7Yx5kP2LTbRxCvufSWPtOKzhAZN/qg1zB"),
        (
            Form::ShaCrypt,
            "$6$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
        ),
        (
            Form::ShaCrypt,
            "$6$rounds=10000$saltstringsaltst$uWkfitxWIj/pKw1nBSBgiQR8Pwbr7IMycYT33N8JITrE33DUmC8bV6rVVtFeP/iZRI3xx58jHgvVgQRG8FBmF/",
        ),
        (Form::Bcrypt, "$2y$05$gvOq4kgjwGchWxA.z8kBlu5ZbSO9XnI56/vAkQsNwKUk738zVT2pq"),
        (Form::Apr1, "$apr1$9a8pHQRE$dFpn6WSaW6Q2dFW225qFw."),
        (Form::ShaCrypt, "$5$4i3ZuBNBzJjbVajy$BZsAuPr3r3Swn0zPIdxxdop5uRqIUJ6ca0vPFsjvVH7"),
        (
            Form::ShaCrypt,
            "$6$doP/jLyzaa.21mCQ$lYcXArRNQyI/hBE2kEsMr.Z0XdOyBxHsKNoLtmkMKv8gHo9c2cmu14AIrz8B2yViP2zN2wyi.ZqU1l708.w5l1",
        ),
    ];

    #[test]
    fn every_form_is_checked() {
        for (form, hash) in HASHES {
            assert_eq!(form_of(hash), Ok(*form), "{hash}");
            assert!(verify(PASSWORD, hash), "{hash}");
            for wrong in ["", "correct hors", "correct horsf", "Correct horse", "correct horse\0"] {
                assert!(!verify(wrong, hash), "{wrong:?} {hash}");
            }
        }
    }

    #[test]
    fn md5_crypt_at_its_edges() {
        let vectors = [
            ("", "$1$abc$Or2rbeUYTvt12aiVzMuS/."),
            ("pässword", "$1$x$V3.RZpkIe3iEFSMxosZjR."),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "$1$12345678$beiWYJUUHF.ZVo9A4ag9w0"),
            ("", "$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ."),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "$apr1$x$mq8o9qeJvNxS/DeCHNxsy1"),
            ("pässword", "$6$x$Y6x/cSN4Qy1nE4m11Au0OruaEwCBJvmZ82Cq6gb5.wCo8Mvj2/0slHQq3YNprBL4Nbez4wYXf0anRaba4rlP.0"),
        ];
        for (password, hash) in vectors {
            assert!(verify(password, hash), "{hash}");
        }
    }

    #[test]
    fn what_is_damaged_matches_nothing() {
        for (_, hash) in HASHES {
            assert!(!verify(PASSWORD, &hash[..hash.len() - 1]), "{hash}");
            assert!(!verify(PASSWORD, &format!("{hash}x")), "{hash}");
            assert!(!verify(PASSWORD, &format!(" {hash}")), "{hash}");
        }
        let others = [
            "",
            "$",
            "$1$",
            "$apr1$$",
            "$2y$",
            "$5$$",
            "$6$rounds=$x$",
            "{SHA}",
            "*",
            "!",
            "abhfCpXqd4GrI",
            PASSWORD,
            "$2x$05$",
        ];
        for hash in others {
            assert!(form_of(hash).is_err(), "{hash}");
            assert!(!verify(PASSWORD, hash), "{hash}");
            assert!(!verify("", hash), "{hash}");
        }
    }

    #[test]
    fn a_file_is_read_line_by_line() {
        let text = format!(
            "\u{feff}# staff\r\nann:{apr1}\r\n\r\n  \nbob:{sha}:autocreated 2024-05-06T07:08:09.010Z\n#eve:x\ncarl\n\
             a/b:{apr1}\n:{apr1}\nann:{sha}\ndora:\nemil:plain\nfay:abhfCpXqd4GrI\ngus:$2y$31$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n\
             hal:$6$rounds=99999999$x$\nida:{{SHA}}x\njörg:{apr1}",
            apr1 = "$apr1$r31abcde$bLMECPkG822DraFf9Cs4Z/",
            sha = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
        );
        let (entries, mistakes) = parse(&text);
        let found: Vec<(&str, usize)> = entries.iter().map(|entry| (entry.name.as_str(), entry.line)).collect();
        assert_eq!(found, [("ann", 2), ("bob", 5), ("jörg", 17)]);
        assert_eq!(entries[1].hash, "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=");
        let expected = [
            (7, "no colon"),
            (8, "cannot be the name"),
            (9, "cannot be the name"),
            (10, "on line 2 already"),
            (11, "no hash"),
            (12, "clear text"),
            (13, "old crypt(3)"),
            (14, "cost 31"),
            (15, "99999999 rounds"),
            (16, "damaged"),
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for (mistake, (line, words)) in mistakes.iter().zip(expected) {
            assert_eq!(mistake.line, line);
            assert!(mistake.why.contains(words), "{mistake:?}");
            assert!(!mistake.why.contains("plain"), "nothing of the line is repeated");
        }
    }

    #[test]
    fn a_file_that_is_none_is_given_up_on() {
        let (entries, mistakes) = parse(&"x\n".repeat(5_000));
        assert_eq!((entries.len(), mistakes.len()), (0, MAX_MISTAKES + 1));
        let (entries, mistakes) = parse(&"\n".repeat(MAX_LINES + 10));
        assert_eq!((entries.len(), mistakes.len()), (0, 1));
        let (_, mistakes) = parse(&format!("ann:{}", "x".repeat(MAX_LINE_BYTES)));
        assert!(mistakes[0].why.contains("bytes"), "{mistakes:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fail(
            prefix in proptest::sample::select(vec!["", "a:", "a:$1$", "a:$apr1$", "a:$2y$05$", "a:$6$rounds=", "a:{SHA}"]),
            rest in ".*",
        ) {
            let text = format!("{prefix}{rest}");
            let (entries, mistakes) = parse(&text);
            proptest::prop_assert!(entries.len() + mistakes.len() <= text.lines().count());
            proptest::prop_assert!(entries.iter().all(|entry| form_of(&entry.hash).is_ok()));
        }
    }
}
