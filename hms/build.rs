//! Makes Rust of `idl/hive_metastore.thrift`: structs that keep unknown fields, and one type per call.
//! Says nothing to cargo, which then runs it whenever a file of this package changes.

#[path = "build/emit.rs"]
mod emit;
#[path = "build/idl.rs"]
mod idl;

use std::error::Error;
use std::path::Path;

const IDL: &str = "idl/hive_metastore.thrift";

fn main() -> Result<(), Box<dyn Error>> {
    let text = std::fs::read_to_string(IDL)?;
    let document = idl::parse(&text).map_err(|error| format!("{IDL}: {error}"))?;
    let code = emit::rust(&document).map_err(|error| format!("{IDL}: {error}"))?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("api.rs"), code)?;
    Ok(())
}
