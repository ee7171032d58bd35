//! Password hashing: slow on purpose, and therefore off the async threads and few at once.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::htpasswd;

/// How many hashes are computed at once. Each takes about 19 MiB and tens of milliseconds (argon2id, the crate's
/// defaults, which are OWASP's); more at once would let strangers use up the machine.
const AT_ONCE: usize = 2;

/// How many callers may wait for their turn before further ones are sent away.
const WAITING: usize = 64;

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

/// Why a password could not be hashed or checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many sign-ins at once; try again later.
    #[error("too many sign-ins at once")]
    Busy,
    /// The hash could not be computed.
    #[error("the password could not be hashed")]
    Failed,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(AT_ONCE)), admitted: Arc::new(Semaphore::new(AT_ONCE + WAITING)) }
    }
}

impl Passwords {
    /// A new hash of the password with a random salt, as a PHC text.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.run(move || {
            let hash: PasswordHash =
                Argon2::default().hash_password(password.as_bytes()).map_err(|_| PasswordError::Failed)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether the password is the one that was hashed, by us or in any form that an htpasswd file may have. A stored
    /// text that is no hash matches nothing.
    pub async fn verify(&self, password: String, stored: String) -> Result<bool, PasswordError> {
        self.run(move || {
            // Other forms may look like a PHC text: what is none of argon2's is left to the next line.
            if let Ok(hash) = PasswordHash::new(&stored)
                && Algorithm::try_from(hash.algorithm.as_str()).is_ok()
            {
                return Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok());
            }
            let is_right = htpasswd::verify(&password, &stored);
            if !is_right {
                // Most of these forms are quick: without this, a wrong password would tell which names were imported.
                waste_time(&password)?;
            }
            Ok(is_right)
        })
        .await
    }

    /// Takes the time that checking a password takes and answers false: for a name that nobody has, so that it cannot
    /// be told by the time. (A wrong password for an imported bcrypt or SHA-crypt hash takes longer than either, until
    /// its account has signed in once.)
    pub async fn verify_dummy(&self, password: String) -> Result<bool, PasswordError> {
        self.run(move || waste_time(&password).map(|()| false)).await
    }

    /// Whether the stored hash is another than [`Self::hash`] would make today: then it is replaced when its account
    /// next signs in with its password.
    pub fn needs_rehash(stored: &str) -> bool {
        let Ok(hash) = PasswordHash::new(stored) else { return true };
        let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        let is_ours = Algorithm::try_from(hash.algorithm.as_str()).is_ok_and(|it| it == Algorithm::default())
            && hash.version == Some(Version::default().into())
            && hash.hash.is_some_and(|output| output.len() == Params::DEFAULT_OUTPUT_LEN)
            && Params::try_from(&hash).is_ok_and(|params| cost(&params) == cost(&Params::DEFAULT));
        !is_ours
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _admitted = self.admitted.try_acquire().map_err(|_| PasswordError::Busy)?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        spawn_blocking(move || {
            // Kept until the work ends: a client that goes away must not make room for one more at once.
            let _permit = permit;
            work()
        })
        .await
        .unwrap_or(Err(PasswordError::Failed))
    }
}

fn waste_time(password: &str) -> Result<(), PasswordError> {
    let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes()).map_err(|_| PasswordError::Failed)?;
    std::hint::black_box(hash);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_only() {
        let passwords = Passwords::default();
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert_eq!(passwords.verify("secret".to_owned(), hash.clone()).await, Ok(true));
        assert_eq!(passwords.verify("Secret".to_owned(), hash).await, Ok(false));
        assert_eq!(passwords.verify("x".to_owned(), "no hash".to_owned()).await, Ok(false));
    }

    #[tokio::test]
    async fn imported_hashes_are_checked_too_and_replaced() {
        let passwords = Passwords::default();
        let imported = [
            "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
            "$apr1$r31abcde$bLMECPkG822DraFf9Cs4Z/",
            "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
            "$5$saltstringsalt1$ASFlBZK0GOdYh0vsKeAUYTLI7a0loXVwOsj781kkNPC",
        ];
        for stored in imported {
            assert_eq!(passwords.verify("correct horse".to_owned(), stored.to_owned()).await, Ok(true), "{stored}");
            assert_eq!(passwords.verify("x".to_owned(), stored.to_owned()).await, Ok(false), "{stored}");
            assert!(Passwords::needs_rehash(stored), "{stored}");
        }
        assert_eq!(passwords.verify_dummy("correct horse".to_owned()).await, Ok(false));
    }

    #[tokio::test]
    async fn only_a_hash_of_today_stays() {
        let hash = Passwords::default().hash("secret".to_owned()).await.unwrap();
        assert!(!Passwords::needs_rehash(&hash), "{hash}");
        let older = [
            hash.replace("argon2id", "argon2i"),
            hash.replace("t=2", "t=1"),
            hash.replace("m=19456", "m=4096"),
            hash.replace("v=19", "v=16"),
            String::new(),
            "no hash".to_owned(),
        ];
        for stored in older {
            assert_ne!(stored, hash);
            assert!(Passwords::needs_rehash(&stored), "{stored}");
        }
    }
}
