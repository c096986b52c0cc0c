//! Reads the subset of the Thrift language that our IDL uses: structs, unions, exceptions, enums, one service.
//! Field qualifiers, defaults, includes, typedefs and constants are refused, so that none is ignored in silence.

/// A whole IDL file.
#[derive(Debug, Default)]
pub struct Document {
    pub structs: Vec<Struct>,
    pub enums: Vec<Enum>,
    pub calls: Vec<Call>,
}

#[derive(Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
    pub exception: bool,
}

#[derive(Debug)]
pub struct Field {
    pub id: i16,
    pub of: Type,
    pub name: String,
}

#[derive(Debug)]
pub struct Enum {
    pub name: String,
    pub values: Vec<(String, i32)>,
}

#[derive(Debug)]
pub struct Call {
    pub name: String,
    /// None for `void`.
    pub returns: Option<Type>,
    pub arguments: Vec<Field>,
    pub throws: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    String,
    Binary,
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Named(String),
}

pub fn parse(text: &str) -> Result<Document, String> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    let mut document = Document::default();
    while let Some(word) = parser.next() {
        match word.as_str() {
            "struct" | "union" => document.structs.push(parser.structure(false)?),
            "exception" => document.structs.push(parser.structure(true)?),
            "enum" => document.enums.push(parser.enumeration()?),
            "service" => document.calls.extend(parser.service()?),
            other => return Err(format!("`{other}` is no definition that is understood")),
        }
    }
    Ok(document)
}

/// Words, numbers and single signs; comments are gone.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let line = line.split_once("//").map_or(line, |(code, _)| code);
        let mut word = String::new();
        for sign in line.chars() {
            if sign.is_alphanumeric() || sign == '_' || sign == '.' {
                word.push(sign);
                continue;
            }
            if !word.is_empty() {
                tokens.push(std::mem::take(&mut word));
            }
            if !sign.is_whitespace() {
                tokens.push(sign.to_string());
            }
        }
        if !word.is_empty() {
            tokens.push(word);
        }
    }
    tokens
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

impl Parser {
    fn next(&mut self) -> Option<String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn word(&mut self) -> Result<String, String> {
        self.next().ok_or_else(|| "the file ends too early".to_owned())
    }

    fn is(&mut self, sign: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|token| token == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        let word = self.word()?;
        if word == sign { Ok(()) } else { Err(format!("`{sign}` is missing before `{word}`")) }
    }

    fn structure(&mut self, exception: bool) -> Result<Struct, String> {
        let name = self.word()?;
        self.expect("{")?;
        Ok(Struct { fields: self.fields("}").map_err(|error| format!("{name}: {error}"))?, name, exception })
    }

    /// Fields up to the sign that ends them.
    fn fields(&mut self, end: &str) -> Result<Vec<Field>, String> {
        let mut fields: Vec<Field> = Vec::new();
        while !self.is(end) {
            let id = self.word()?;
            let id: i16 = id.parse().map_err(|_| format!("`{id}` is no field id"))?;
            self.expect(":")?;
            let of = self.typed()?;
            let name = self.word()?;
            if fields.iter().any(|field| field.id == id || field.name == name) {
                return Err(format!("field {id} `{name}` is there twice"));
            }
            fields.push(Field { id, of, name });
            let _separator = self.is(",");
        }
        Ok(fields)
    }

    fn typed(&mut self) -> Result<Type, String> {
        let name = self.word()?;
        Ok(match name.as_str() {
            "bool" => Type::Bool,
            "byte" => Type::Byte,
            "i16" => Type::I16,
            "i32" => Type::I32,
            "i64" => Type::I64,
            "double" => Type::Double,
            "string" => Type::String,
            "binary" => Type::Binary,
            "list" => Type::List(self.inner()?),
            "set" => Type::Set(self.inner()?),
            "map" => {
                self.expect("<")?;
                let key = Box::new(self.typed()?);
                self.expect(",")?;
                let value = Box::new(self.typed()?);
                self.expect(">")?;
                Type::Map(key, value)
            }
            "required" | "optional" => return Err(format!("`{name}`: every field is optional here")),
            _ => Type::Named(name),
        })
    }

    fn inner(&mut self) -> Result<Box<Type>, String> {
        self.expect("<")?;
        let inner = Box::new(self.typed()?);
        self.expect(">")?;
        Ok(inner)
    }

    fn enumeration(&mut self) -> Result<Enum, String> {
        let name = self.word()?;
        self.expect("{")?;
        let mut values = Vec::new();
        while !self.is("}") {
            let value = self.word()?;
            self.expect("=")?;
            let number = self.word()?;
            values.push((value, number.parse().map_err(|_| format!("{name}: `{number}` is no number"))?));
            let _separator = self.is(",");
        }
        Ok(Enum { name, values })
    }

    fn service(&mut self) -> Result<Vec<Call>, String> {
        let _name = self.word()?;
        self.expect("{")?;
        let mut calls = Vec::new();
        while !self.is("}") {
            let returns = if self.is("void") { None } else { Some(self.typed()?) };
            let name = self.word()?;
            self.expect("(")?;
            let arguments = self.fields(")").map_err(|error| format!("{name}: {error}"))?;
            let mut throws = Vec::new();
            if self.is("throws") {
                self.expect("(")?;
                throws = self.fields(")").map_err(|error| format!("{name}: {error}"))?;
            }
            calls.push(Call { name, returns, arguments, throws });
        }
        Ok(calls)
    }
}
