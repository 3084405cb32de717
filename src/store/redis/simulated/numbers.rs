//! Numbers as C writes and reads them.

/// `%.17g`.
pub(super) fn seventeen_digits(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e17 && (number != 0.0 || number.is_sign_positive()) {
        return (number as i64).to_string();
    }
    if number.is_nan() {
        return if number.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    let stripped = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).expect("is not negative");
        return stripped(&format!("{number:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", stripped(mantissa), exponent.abs())
}

/// `strtod`: the number that the bytes begin with, and its length. Of hexadecimal ones, the first 53 bits are read exactly.
pub(super) fn number_prefix(bytes: &[u8]) -> Option<(f64, usize)> {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let sign = usize::from(matches!(byte(0), b'+' | b'-'));
    let signed = |number: f64| if byte(0) == b'-' { -number } else { number };
    let word = |text: &str| bytes.get(sign..sign + text.len()).is_some_and(|part| part.eq_ignore_ascii_case(text.as_bytes()));
    for (text, number) in [("infinity", f64::INFINITY), ("inf", f64::INFINITY), ("nan", f64::NAN)] {
        if word(text) {
            return Some((signed(number), sign + text.len()));
        }
    }
    if byte(sign) == b'0' && byte(sign + 1) | 0x20 == b'x' {
        if let Some((number, end)) = hexadecimal(bytes, sign + 2) {
            return Some((signed(number), end));
        }
        return Some((signed(0.0), sign + 1));
    }
    let digits = |from: usize| bytes.get(from..).map_or(0, |rest| rest.iter().take_while(|b| b.is_ascii_digit()).count());
    let whole = digits(sign);
    let mut end = sign + whole;
    let mut fraction = 0;
    if byte(end) == b'.' {
        fraction = digits(end + 1);
        end += usize::from(whole + fraction > 0) + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if byte(end) | 0x20 == b'e' {
        let sign = usize::from(matches!(byte(end + 1), b'+' | b'-'));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let number = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    Some((number, end))
}

/// What stands behind `0x`, and where it ends.
fn hexadecimal(bytes: &[u8], from: usize) -> Option<(f64, usize)> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut number, mut at, mut power, mut count) = (0.0, from, 0, 0);
    while let Some(value) = digit(at) {
        number = number * 16.0 + f64::from(value);
        (at, count) = (at + 1, count + 1);
    }
    if bytes.get(at) == Some(&b'.') && (count > 0 || digit(at + 1).is_some()) {
        at += 1;
        while let Some(value) = digit(at) {
            number = number * 16.0 + f64::from(value);
            (at, count, power) = (at + 1, count + 1, power - 4);
        }
    }
    if count == 0 {
        return None;
    }
    if bytes.get(at).is_some_and(|byte| byte | 0x20 == b'p') {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let digits = bytes[at + 1 + sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            let text = std::str::from_utf8(&bytes[at + 1..at + 1 + sign + digits]).ok()?;
            power += text.parse::<i32>().unwrap_or(i32::MAX / 2).clamp(-100_000, 100_000);
            at += 1 + sign + digits;
        }
    }
    Some((number * 2f64.powi(power), at))
}

#[test]
fn numbers_are_as_c_has_them() {
    for (number, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1_795_511_065_638_315.0, "1795511065638315"),
        (0.1, "0.10000000000000001"),
        (1e17, "1e+17"),
        (12_345_678_901_234_567.0, "12345678901234568"),
        (-1.5e-7, "-1.4999999999999999e-07"),
        (1e300, "1.0000000000000001e+300"),
        (0.0001, "0.0001"),
    ] {
        assert_eq!(seventeen_digits(number), text);
    }
    for (text, expected) in [
        ("12,", Some((12.0, 2))),
        ("-1.5e3x", Some((-1500.0, 6))),
        ("1e", Some((1.0, 1))),
        ("1.", Some((1.0, 2))),
        ("-.5", Some((-0.5, 3))),
        (".", None),
        ("-", None),
        ("0x1F.8p1", Some((63.0, 8))),
        ("0xg", Some((0.0, 1))),
        ("Infinity", Some((f64::INFINITY, 8))),
    ] {
        assert_eq!(number_prefix(text.as_bytes()), expected, "{text}");
    }
}
