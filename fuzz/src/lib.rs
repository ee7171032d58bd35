//! `src/npm` and `src/lockfile` alone. They are pure, so that the fuzz targets need neither the server nor its hundreds of
//! dependencies, which take more than nine minutes to build with the sanitizer on two cores.

#[path = "../../src/lockfile/mod.rs"]
pub mod lockfile;
#[path = "../../src/npm/mod.rs"]
pub mod npm;
