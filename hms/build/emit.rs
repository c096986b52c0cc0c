//! Writes Rust for a parsed IDL: what `hms::api` and `hms::calls` hold. The codec itself is in `src/wire.rs`.

use crate::idl::{Call, Document, Enum, Field, Struct, Type};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The names of all types, to tell an enumeration from a struct and to refuse what is not defined.
struct Names<'a> {
    enums: BTreeSet<&'a str>,
    structs: BTreeSet<&'a str>,
}

pub fn rust(document: &Document) -> Result<String, String> {
    let names = Names {
        enums: document.enums.iter().map(|one| one.name.as_str()).collect(),
        structs: document.structs.iter().map(|one| one.name.as_str()).collect(),
    };
    let mut out = String::new();
    emit(&mut out, "/// Structs and enumerations of the service, as the IDL names them.");
    emit(&mut out, "pub mod api {");
    emit(&mut out, "use crate::wire::{Binary, DecodeError, Reader, Unknown, Wire, put_field};");
    emit(&mut out, "use std::collections::{BTreeMap, BTreeSet};");
    for one in &document.enums {
        enumeration(&mut out, one);
    }
    for one in document.structs.iter().filter(|one| !one.exception) {
        structure(&mut out, &names, one)?;
    }
    emit(&mut out, "}");
    emit(&mut out, "/// One type per call: its fields are the arguments.");
    emit(&mut out, "pub mod calls {");
    emit(&mut out, "use crate::api::*;");
    emit(&mut out, "use crate::message::{Call, Exception, read_result};\nuse super::ExceptionKind;");
    emit(&mut out, "use crate::wire::{DecodeError, Reader, Wire, put_field};");
    for call in &document.calls {
        one_call(&mut out, &names, call)?;
    }
    emit(&mut out, "/// The name of every call of the IDL.");
    let all: Vec<String> = document.calls.iter().map(|call| format!("{:?}", call.name)).collect();
    emit(&mut out, &format!("pub const NAMES: &[&str] = &[{}];", all.join(", ")));
    emit(&mut out, "}");
    exceptions(&mut out, document);
    Ok(out)
}

fn emit(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn enumeration(out: &mut String, one: &Enum) {
    let name = &one.name;
    emit(out, "#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]");
    emit(out, &format!("pub struct {name}(pub i32);"));
    emit(out, &format!("impl {name} {{"));
    for (value, number) in &one.values {
        emit(out, &format!("pub const {value}: Self = Self({number});"));
    }
    emit(out, "}");
    emit(out, &format!("impl Wire for {name} {{ const TYPE: u8 = 8;"));
    emit(out, "fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> { i32::read(r).map(Self) }");
    emit(out, "fn write(&self, out: &mut Vec<u8>) { self.0.write(out); } }");
}

fn structure(out: &mut String, names: &Names<'_>, one: &Struct) -> Result<(), String> {
    emit(out, "#[derive(Debug, Clone, Default, PartialEq)]");
    emit(out, &format!("pub struct {} {{", one.name));
    for field in &one.fields {
        emit(out, &format!("pub {}: Option<{}>,", rust_name(&field.name), rust_type(names, &field.of)?));
    }
    emit(out, "/// Fields that the IDL does not name, as they came.");
    emit(out, "pub unknown: Unknown, }");
    emit(out, &format!("impl Wire for {} {{ const TYPE: u8 = 12;", one.name));
    emit(out, "fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> { let mut it = Self::default(); r.enter()?;");
    emit(out, "while let Some(field) = r.field()? { match (field.id, field.kind) {");
    for field in &one.fields {
        let (id, kind) = (field.id, wire_type(names, &field.of)?);
        emit(out, &format!("({id}, {kind}) => it.{} = Some(Wire::read(r)?),", rust_name(&field.name)));
    }
    emit(out, "_ => r.keep(&field, &mut it.unknown)?, } } r.leave(); Ok(it) }");
    emit(out, "fn write(&self, out: &mut Vec<u8>) {");
    put_fields(out, &one.fields);
    emit(out, "self.unknown.write(out); out.push(0); }");
    emit(out, "#[allow(unused_variables)] fn each_binary(&mut self, see: &mut dyn FnMut(&mut Binary)) {");
    for field in &one.fields {
        emit(out, &format!("if let Some(value) = &mut self.{} {{ value.each_binary(see); }}", rust_name(&field.name)));
    }
    emit(out, "} }");
    Ok(())
}

fn put_fields(out: &mut String, fields: &[Field]) {
    for field in fields {
        emit(out, &format!("put_field(out, {}, self.{}.as_ref());", field.id, rust_name(&field.name)));
    }
}

fn one_call(out: &mut String, names: &Names<'_>, call: &Call) -> Result<(), String> {
    let name = pascal(&call.name);
    let returns = call.returns.as_ref().map_or(Ok("()".to_owned()), |of| rust_type(names, of))?;
    let kind = call.returns.as_ref().map_or(Ok(0), |of| wire_type(names, of))?;
    emit(out, &format!("/// The call `{}`.", call.name));
    emit(out, "#[derive(Debug, Clone, Default, PartialEq)]");
    emit(out, &format!("pub struct {name} {{"));
    for field in &call.arguments {
        emit(out, &format!("pub {}: Option<{}>,", rust_name(&field.name), rust_type(names, &field.of)?));
    }
    emit(out, "}");
    emit(out, &format!("impl Call for {name} {{ const NAME: &'static str = {:?}; type Reply = {returns};", call.name));
    emit(out, "#[allow(unused_variables)]");
    emit(out, "fn write(&self, out: &mut Vec<u8>) {");
    put_fields(out, &call.arguments);
    emit(out, "out.push(0); }");
    emit(out, "fn read(r: &mut Reader<'_>) -> Result<Result<Self::Reply, Exception>, DecodeError> {");
    let mut kinds = String::new();
    for thrown in &call.throws {
        let Type::Named(exception) = &thrown.of else { return Err(format!("{}: throws no exception", call.name)) };
        if !names.structs.contains(exception.as_str()) {
            return Err(format!("{}: `{exception}` is not defined", call.name));
        }
        let _never_fails = write!(kinds, "{} => ExceptionKind::{exception}, ", thrown.id);
    }
    emit(out, &format!("let kind = |id: i16| match id {{ {kinds} _ => ExceptionKind::Unknown }};"));
    match call.returns {
        None => emit(out, "Ok(read_result(r, kind, |_, _| Ok(false))?.map_or(Ok(()), Err)) } }"),
        Some(_) => {
            emit(out, "let mut value = None;");
            emit(
                out,
                &format!("let thrown = read_result(r, kind, |kind, r| {{ if kind != {kind} {{ return Ok(false); }}"),
            );
            emit(out, "value = Some(Wire::read(r)?); Ok(true) })?;");
            emit(out, "Ok(match (thrown, value) { (Some(thrown), _) => Err(thrown), (None, Some(value)) => Ok(value),");
            emit(out, "(None, None) => Err(Exception::missing_result()) }) } }");
        }
    }
    Ok(())
}

fn exceptions(out: &mut String, document: &Document) {
    emit(out, "/// The exceptions that a call can end with. `Unknown` is one that our IDL does not list for the call.");
    emit(out, "#[derive(Debug, Clone, Copy, PartialEq, Eq)]");
    emit(out, "pub enum ExceptionKind {");
    let names = || document.structs.iter().filter(|one| one.exception).map(|one| one.name.as_str());
    for name in names() {
        emit(out, &format!("{name},"));
    }
    emit(out, "Unknown }");
    emit(out, "impl ExceptionKind { /// The name that the IDL gives it.");
    emit(out, "pub fn name(self) -> &'static str { match self {");
    for name in names() {
        emit(out, &format!("Self::{name} => {name:?},"));
    }
    emit(out, "Self::Unknown => \"an exception of no known kind\" } } }");
}

fn rust_type(names: &Names<'_>, of: &Type) -> Result<String, String> {
    Ok(match of {
        Type::Bool => "bool".to_owned(),
        Type::Byte => "i8".to_owned(),
        Type::I16 => "i16".to_owned(),
        Type::I32 => "i32".to_owned(),
        Type::I64 => "i64".to_owned(),
        Type::Double => "f64".to_owned(),
        Type::String => "String".to_owned(),
        Type::Binary => "Binary".to_owned(),
        Type::List(of) => format!("Vec<{}>", rust_type(names, of)?),
        Type::Set(of) => format!("BTreeSet<{}>", rust_type(names, of)?),
        Type::Map(key, value) => format!("BTreeMap<{}, {}>", rust_type(names, key)?, rust_type(names, value)?),
        Type::Named(name) if names.enums.contains(name.as_str()) || names.structs.contains(name.as_str()) => {
            name.clone()
        }
        Type::Named(name) => return Err(format!("`{name}` is not defined")),
    })
}

fn wire_type(names: &Names<'_>, of: &Type) -> Result<u8, String> {
    Ok(match of {
        Type::Bool => 2,
        Type::Byte => 3,
        Type::Double => 4,
        Type::I16 => 6,
        Type::I32 => 8,
        Type::I64 => 10,
        Type::String | Type::Binary => 11,
        Type::Map(..) => 13,
        Type::Set(_) => 14,
        Type::List(_) => 15,
        Type::Named(name) if names.enums.contains(name.as_str()) => 8,
        Type::Named(name) if names.structs.contains(name.as_str()) => 12,
        Type::Named(name) => return Err(format!("`{name}` is not defined")),
    })
}

/// `skewedColNames` -> `skewed_col_names`, `numDVs` -> `num_dvs`.
fn rust_name(name: &str) -> String {
    let mut snake = String::new();
    let mut before = '_';
    for sign in name.chars() {
        if sign.is_uppercase() && before.is_lowercase() {
            snake.push('_');
        }
        snake.extend(sign.to_lowercase());
        before = sign;
    }
    if snake == "type" { "r#type".to_owned() } else { snake }
}

/// `get_table_req` -> `GetTableReq`.
fn pascal(name: &str) -> String {
    let upper = |part: &str| {
        let mut signs = part.chars();
        signs.next().map(|first| first.to_uppercase().chain(signs).collect::<String>())
    };
    name.split('_').filter_map(upper).collect()
}
