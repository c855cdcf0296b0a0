//! CBOR as people read it: the diagnostic notation of RFC 8949, section 8.

use std::fmt::Write as _;

use minicbor::Decoder;
use minicbor::data::Type;

/// How deep arrays, maps and tags may be nested. Payloads come from anybody.
const DEPTH_MAX: usize = 64;

/// The one CBOR item that the bytes are, such as `{"on": true, "level": 0.5}`, broken off soon after
/// `length_max` bytes of text.
///
/// `None` if the bytes are not exactly one well-formed item, or if it is nested too deeply.
pub(crate) fn diagnostic(bytes: &[u8], length_max: usize) -> Option<String> {
    let mut notation = Notation {
        from: Decoder::new(bytes),
        text: String::new(),
        length_max,
        depth: 0,
    };
    match notation.item() {
        Ok(()) => (notation.from.position() == bytes.len()).then_some(notation.text),
        Err(Stop::LongEnough) => {
            notation.text.push('…');
            Some(notation.text)
        }
        Err(Stop::Malformed) => None,
    }
}

struct Notation<'a> {
    from: Decoder<'a>,
    text: String,
    length_max: usize,
    depth: usize,
}

enum Stop {
    LongEnough,
    Malformed,
}

impl From<minicbor::decode::Error> for Stop {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Malformed
    }
}

impl Notation<'_> {
    fn item(&mut self) -> Result<(), Stop> {
        if self.text.len() > self.length_max {
            return Err(Stop::LongEnough);
        }
        match self.from.datatype()? {
            Type::Bool => self.text += if self.from.bool()? { "true" } else { "false" },
            Type::Null => {
                self.from.null()?;
                self.text += "null";
            }
            Type::Undefined => {
                self.from.undefined()?;
                self.text += "undefined";
            }
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                let number = self.from.u64()?;
                self.write(number);
            }
            Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::Int => {
                let number = self.from.int()?;
                self.write(number);
            }
            Type::F16 => {
                let number = self.from.f16()?;
                self.float(number.into());
            }
            Type::F32 => {
                let number = self.from.f32()?;
                self.float(number.into());
            }
            Type::F64 => {
                let number = self.from.f64()?;
                self.float(number);
            }
            Type::Simple => {
                let number = self.from.simple()?;
                self.write(format_args!("simple({number})"));
            }
            Type::Bytes => {
                let bytes = self.from.bytes()?;
                self.bytes(bytes)?;
            }
            Type::String => {
                let text = self.from.str()?;
                self.string(text)?;
            }
            Type::BytesIndef => {
                let chunks: Vec<&[u8]> = self.from.bytes_iter()?.collect::<Result<_, _>>()?;
                self.chunks(chunks, Self::bytes)?;
            }
            Type::StringIndef => {
                let chunks: Vec<&str> = self.from.str_iter()?.collect::<Result<_, _>>()?;
                self.chunks(chunks, Self::string)?;
            }
            Type::Array | Type::ArrayIndef => {
                let length = self.from.array()?;
                self.list('[', length, Self::item)?;
            }
            Type::Map | Type::MapIndef => {
                let length = self.from.map()?;
                self.list('{', length, |notation| {
                    notation.item()?;
                    notation.text += ": ";
                    notation.item()
                })?;
            }
            Type::Tag => {
                let tag = self.from.tag()?;
                self.write(format_args!("{}(", tag.as_u64()));
                self.nested(Self::item)?;
                self.text.push(')');
            }
            Type::Break | Type::Unknown(_) => return Err(Stop::Malformed),
        }
        Ok(())
    }

    fn list(
        &mut self,
        open: char,
        length: Option<u64>,
        entry: impl Fn(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.text.push(open);
        if length.is_none() {
            self.text.push('_');
        }
        self.nested(|notation| {
            let mut entries = 0;
            loop {
                match length {
                    Some(length) if entries == length => return Ok(()),
                    None if notation.from.datatype()? == Type::Break => {
                        notation.from.set_position(notation.from.position() + 1);
                        return Ok(());
                    }
                    _ => {}
                }
                match (entries, length) {
                    (0, Some(_)) => {}
                    (0, None) => notation.text.push(' '),
                    _ => notation.text += ", ",
                }
                entry(notation)?;
                entries += 1;
            }
        })?;
        self.text.push(if open == '[' { ']' } else { '}' });
        Ok(())
    }

    fn nested(&mut self, inside: impl FnOnce(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        if self.depth == DEPTH_MAX {
            return Err(Stop::Malformed);
        }
        self.depth += 1;
        inside(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn chunks<T>(
        &mut self,
        chunks: Vec<T>,
        write: impl Fn(&mut Self, T) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.text += "(_ ";
        for (at, chunk) in chunks.into_iter().enumerate() {
            if at > 0 {
                self.text += ", ";
            }
            write(self, chunk)?;
        }
        self.text.push(')');
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.text += "h'";
        for byte in bytes {
            if self.text.len() > self.length_max {
                return Err(Stop::LongEnough);
            }
            self.write(format_args!("{byte:02x}"));
        }
        self.text.push('\'');
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Stop> {
        self.text.push('"');
        for c in text.chars() {
            if self.text.len() > self.length_max {
                return Err(Stop::LongEnough);
            }
            if matches!(c, '"' | '\\') {
                self.text.push('\\');
            }
            self.text.push(c);
        }
        self.text.push('"');
        Ok(())
    }

    fn float(&mut self, number: f64) {
        if number.is_nan() {
            self.text += "NaN";
        } else if number.is_infinite() {
            self.text += if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
        } else {
            self.write(format_args!("{number:?}"));
        }
    }

    fn write(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.text, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_hex(hex: &str) -> Option<String> {
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        diagnostic(&bytes, 1000)
    }

    #[test]
    fn items_are_written_as_the_standard_does() {
        // RFC 8949, appendix A.
        for (hex, expected) in [
            ("00", "0"),
            ("1bffffffffffffffff", "18446744073709551615"),
            ("3bffffffffffffffff", "-18446744073709551616"),
            ("3903e7", "-1000"),
            ("f93e00", "1.5"),
            ("f97bff", "65504.0"),
            ("fa47c35000", "100000.0"),
            ("fb3ff199999999999a", "1.1"),
            ("f97c00", "Infinity"),
            ("f97e00", "NaN"),
            ("f9fc00", "-Infinity"),
            ("f4", "false"),
            ("f6", "null"),
            ("f7", "undefined"),
            ("f0", "simple(16)"),
            ("f8ff", "simple(255)"),
            ("c11a514b67b0", "1(1363896240)"),
            ("40", "h''"),
            ("4401020304", "h'01020304'"),
            ("62225c", r#""\"\\""#),
            ("62c3bc", "\"ü\""),
            ("80", "[]"),
            ("8301820203820405", "[1, [2, 3], [4, 5]]"),
            ("a0", "{}"),
            ("a26161016162820203", r#"{"a": 1, "b": [2, 3]}"#),
            ("5f42010243030405ff", "(_ h'0102', h'030405')"),
            ("7f657374726561646d696e67ff", r#"(_ "strea", "ming")"#),
            ("9fff", "[_]"),
            ("9f018202039f0405ffff", "[_ 1, [2, 3], [_ 4, 5]]"),
            ("bf61610161629f0203ffff", r#"{_ "a": 1, "b": [_ 2, 3]}"#),
        ] {
            assert_eq!(of_hex(hex).as_deref(), Some(expected), "{hex}");
        }
    }

    #[test]
    fn bytes_that_are_not_one_item_have_no_notation() {
        for hex in [
            "", "0000", "61", "ff", "8201", "9f01", "1c", "a101", "bf01ff", "62c328", "5f6161ff",
        ] {
            assert_eq!(of_hex(hex), None, "{hex}");
        }
    }

    #[test]
    fn deep_or_endless_claims_cost_nothing() {
        for byte in [0x81, 0x9f, 0xbf, 0xc1, 0xa1] {
            assert_eq!(
                diagnostic(&vec![byte; 1_000_000], usize::MAX),
                None,
                "{byte:x}"
            );
        }
        assert_eq!(of_hex("9bffffffffffffffff00"), None);
        assert_eq!(of_hex("5bffffffffffffffff00"), None);
        let mut deep = vec![0x81; DEPTH_MAX];
        deep.push(0);
        assert!(diagnostic(&deep, 1000).is_some());
        deep.insert(0, 0x81);
        assert_eq!(diagnostic(&deep, 1000), None);
    }

    #[test]
    fn long_items_are_broken_off() {
        let long = minicbor::to_vec("x".repeat(1_000_000)).unwrap();
        assert_eq!(
            diagnostic(&long, 10).unwrap(),
            format!("\"{}…", "x".repeat(10))
        );
        let many = minicbor::to_vec([7; 100]).unwrap();
        assert_eq!(diagnostic(&many, 10).unwrap(), "[7, 7, 7, 7, …");
    }
}
