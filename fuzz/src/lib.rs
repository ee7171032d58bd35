//! `src/npm`, `src/lockfile` and the parts of `src/advisories` that read records, alone. They are pure, so that the fuzz
//! targets need neither the server nor its hundreds of dependencies, which take more than nine minutes to build with the
//! sanitizer on two cores.

#[path = "../../src/advisories"]
pub mod advisories {
    pub mod advisory;
    pub mod affected;
    pub mod codec;
    pub mod record;
    pub mod severity;
}
#[path = "../../src/lockfile/mod.rs"]
pub mod lockfile;
#[path = "../../src/npm/mod.rs"]
pub mod npm;
