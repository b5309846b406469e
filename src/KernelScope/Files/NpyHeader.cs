using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace KernelScope.Files;

/// <summary>
/// The head of an .npy array, versions 1.0 to 3.0: magic, version, header length, and a Python dictionary with exactly descr, fortran_order and shape.
/// The dictionary is parsed as data: literals only, no nesting, nothing evaluated.
/// </summary>
/// <param name="Info">What the array is.</param>
/// <param name="Length">Bytes before the data.</param>
/// <param name="BigEndian">Whether the elements are stored big-endian.</param>
internal readonly record struct NpyHeader(TensorInfo Info, int Length, bool BigEndian)
{
    // As NumPy: longer header texts are refused there too.
    private const int MaxTextLength = 10_000;
    private const int MaxRank = 64;

    /// <summary>The longest head that is accepted, with magic, version and length.</summary>
    public const int MaxLength = 12 + MaxTextLength;

    /// <summary>Parses a head.</summary>
    /// <param name="name">The array's name.</param>
    /// <param name="start">The entry's first bytes, up to <see cref="MaxLength"/>.</param>
    /// <param name="entryLength">Bytes of the whole entry.</param>
    /// <param name="path">The file, for messages.</param>
    public static NpyHeader Parse(string name, ReadOnlySpan<byte> start, long entryLength, string path)
    {
        InvalidDataException Bad(string what) => BadFile.At(path, $"the array {BadFile.Quote(name)} {what}.");
        if (start.Length < 6 || start[0] != 0x93 || !start[1..6].SequenceEqual("NUMPY"u8))
            throw Bad("does not begin as an .npy array");
        if (start.Length < 8)
            throw Bad("stops inside its .npy header");
        if (start[6] is not (1 or 2 or 3) || start[7] != 0)
            throw Bad($"has the .npy version {start[6]}.{start[7]}; 1.0, 2.0 and 3.0 are known");
        int textStart = start[6] == 1 ? 10 : 12;
        if (start.Length < textStart)
            throw Bad("stops inside its .npy header");
        uint length = start[6] == 1
            ? BinaryPrimitives.ReadUInt16LittleEndian(start[8..]) : BinaryPrimitives.ReadUInt32LittleEndian(start[8..]);
        if (length > MaxTextLength)
            throw Bad($"has an .npy header of {length} bytes, over the limit of {MaxTextLength}");
        if (length > start.Length - textStart)
            throw Bad("stops inside its .npy header");
        ReadOnlySpan<byte> text = start.Slice(textStart, (int)length);
        if (start[6] == 3 && !System.Text.Unicode.Utf8.IsValid(text))
            throw Bad("has an .npy header that is not UTF-8");

        var parser = new Literal((start[6] == 3 ? Encoding.UTF8 : Encoding.Latin1).GetString(text));
        (string descr, bool fortran, long[] shape) = parser.Dictionary(Bad);
        (DType dtype, bool bigEndian) = DTypes.FromNpy(descr) ?? throw Bad(Unsupported(descr));
        if (!TensorInfo.TryCount(shape, dtype, out long count))
            throw Bad($"has the shape {BadFile.Shape(shape)}, whose size overflows");
        long present = entryLength - textStart - length;
        long needed = count * dtype.ByteSize();
        if (needed != present)
            throw Bad($"is {dtype.SafetensorsName()} {BadFile.Shape(shape)} and needs {needed} bytes of data, but has {present}");
        return new NpyHeader(new TensorInfo(name, dtype, shape, fortran), textStart + (int)length, bigEndian);
    }

    private static string Unsupported(string descr) => descr switch
    {
        _ when descr.Contains('O', StringComparison.Ordinal) =>
            "holds Python objects, whose data is a program (a pickle): it is never read",
        ">V2" => "has the element type '>V2': two bytes that are bfloat16 are read as '<V2' or '|V2', which is little-endian",
        _ => $"has the element type {BadFile.Quote(descr)}, which is not supported",
    };

    /// <summary>A parser for the few Python literals that a header may hold.</summary>
    private ref struct Literal(string text)
    {
        private int _at;

        public (string Descr, bool Fortran, long[] Shape) Dictionary(Func<string, Exception> bad)
        {
            string? descr = null;
            bool? fortran = null;
            long[]? shape = null;
            if (!Take('{'))
                throw bad("has an .npy header that is not a dictionary");
            while (!Take('}'))
            {
                string key = Text() ?? throw bad("has an .npy header whose dictionary is malformed");
                bool fine = Take(':') && key switch
                {
                    "descr" => descr is null && (descr = Text()) is not null,
                    "fortran_order" => fortran is null && (fortran = Truth()) is not null,
                    "shape" => shape is null && (shape = Tuple()) is not null,
                    _ => false,
                };
                if (!fine)
                    throw bad($"has an .npy header with a missing, repeated, unknown or malformed value at {BadFile.Quote(key)}");
                if (!Take(',') && !Ahead('}'))
                    throw bad("has an .npy header whose dictionary is malformed");
            }
            SkipSpace();
            if (_at != text.Length)
                throw bad("has an .npy header with something behind its dictionary");
            if (descr is null || fortran is null || shape is null)
                throw bad("has an .npy header without descr, fortran_order or shape");
            return (descr, fortran.Value, shape);
        }

        private void SkipSpace()
        {
            while (_at < text.Length && text[_at] is ' ' or '\n' or '\t' or '\r')
                _at++;
        }

        private bool Ahead(char c)
        {
            SkipSpace();
            return _at < text.Length && text[_at] == c;
        }

        private bool Take(char c)
        {
            if (!Ahead(c))
                return false;
            _at++;
            return true;
        }

        private string? Text()
        {
            char quote = Ahead('\'') ? '\'' : '"';
            if (!Take(quote))
                return null;
            int end = text.IndexOf(quote, _at);
            if (end < 0 || text.AsSpan(_at, end - _at).ContainsAny('\\', '\n'))
                return null;
            string value = text[_at..end];
            _at = end + 1;
            return value;
        }

        private bool? Truth()
        {
            SkipSpace();
            foreach (bool value in (ReadOnlySpan<bool>)[false, true])
            {
                string word = value ? "True" : "False";
                if (!text.AsSpan(_at).StartsWith(word, StringComparison.Ordinal))
                    continue;
                _at += word.Length;
                return value;
            }
            return null;
        }

        // A tuple of non-negative integers. (3) is a number in Python, (3,) a tuple.
        private long[]? Tuple()
        {
            if (!Take('('))
                return null;
            var values = new List<long>();
            bool comma = true;
            while (!Ahead(')'))
            {
                int start = _at;
                while (_at < text.Length && char.IsAsciiDigit(text[_at]))
                    _at++;
                ReadOnlySpan<char> digits = text.AsSpan(start, _at - start);
                bool wellFormed = comma && (digits.Length == 1 || (digits.Length > 1 && digits[0] != '0'));
                if (!wellFormed || values.Count == MaxRank
                    || !long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out long value))
                {
                    return null;
                }

                values.Add(value);
                comma = Take(',');
            }
            _at++;
            return values.Count == 1 && !comma ? null : [.. values];
        }
    }
}
