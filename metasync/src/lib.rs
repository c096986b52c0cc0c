//! Keeps a second Hive Metastore in step with the first. Nothing of that is in this version: it holds only the name.
