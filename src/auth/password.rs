//! Password hashing: slow on purpose, and therefore off the async threads and few at once.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

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

    /// Whether the password is the one that was hashed. A stored text that is no hash matches nothing.
    pub async fn verify(&self, password: String, stored: String) -> Result<bool, PasswordError> {
        self.run(move || {
            let Ok(hash) = PasswordHash::new(&stored) else { return Ok(false) };
            Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
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
}
