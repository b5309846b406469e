using System.Text;
using FsCheck;
using FsCheck.Fluent;
using FsCheck.Xunit;
using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>Text made of what is hard for a tokenizer: spaces, newlines, symbols whole and cut, controls, any script, any code point.</summary>
public sealed record HardText(string Value)
{
    private static readonly string[] Fragments =
    [
        " ", "  ", "\n", "\n\n", "\r\n", "\t", "the", " and", "Hello", "1", "2024", "<h1>", "<h1", "h1>", "<start_of_turn>",
            "<end_of_turn>", "<bos>", "<unk>",
        "<0x41>", "<unused1>", "\0", "\uFEFF", "\uFFFD", "\u00A0", "\u3000", "\u0301", "é", "ß", "漢字", "かな", "한글", "ไทย",
            "🙂", "👩‍💻", "𝔘", "𠀀",
    ];

    public static Arbitrary<HardText> Arbitrary()
    {
        Gen<string> fragment = Gen.Elements(Fragments);
        Gen<string> any = Gen.Choose(0, 0x10FFFF).Where(c => Rune.IsValid(c) && c != 0x2581).Select(c => new Rune(c).ToString());
        Gen<string> spaces = Gen.Choose(1, 80).Select(n => new string(' ', n));
        return Gen.Frequency((6, fragment), (3, any), (1, spaces)).ListOf().Select(parts => new HardText(string.Concat(parts)))
            .ToArbitrary();
    }

    public override string ToString() => Convert.ToHexString(Encoding.UTF8.GetBytes(Value));
}

/// <summary>Ids of the demo's tokenizer, half of them bytes.</summary>
public sealed record SomeIds(int[] Values)
{
    public static Arbitrary<SomeIds> Arbitrary()
    {
        Gen<int> id = Gen.Frequency((3, Gen.Choose(217, 472)), (1, Gen.Choose(0, 216)), (2, Gen.Choose(473, 4095)));
        return id.ListOf().Select(ids => new SomeIds([.. ids])).ToArbitrary();
    }
}

[Properties(Arbitrary = [typeof(HardText), typeof(SomeIds)], MaxTest = 2000, QuietOnSuccess = true)]
public class TokenizerPropertyTests
{
    [Property]
    public void Text_survives_encoding_and_decoding(HardText text)
    {
        Assert.Equal(text.Value, TextFixtures.Demo.Decode(TextFixtures.Demo.Encode(text.Value)));
        Assert.Equal(text.Value, TextFixtures.Multi.Decode(TextFixtures.Multi.Encode(text.Value)));
    }

    [Property]
    public void A_newline_separates_texts(HardText first, HardText second)
    {
        string a = first.Value.TrimEnd('\n'), b = second.Value.TrimStart('\n');
        Assert.Equal([.. TextFixtures.Multi.Encode(a), 108, .. TextFixtures.Multi.Encode(b)], TextFixtures.Multi.Encode(a + "\n" + b));
    }

    [Property]
    public void Ids_never_stand_for_control_pieces_and_appending_equals_returning(HardText text)
    {
        var appended = new List<int> { 2 };
        TextFixtures.Demo.Encode(text.Value, appended);
        int[] ids = TextFixtures.Demo.Encode(text.Value);
        Assert.Equal([2, .. ids], appended);
        Assert.DoesNotContain(ids, id => id < 4);
    }

    [Property]
    public void Streaming_gives_whole_characters_that_add_up_to_the_decoded_text(SomeIds ids)
    {
        var decoder = new StreamingDecoder(TextFixtures.Demo);
        var whole = new StringBuilder();
        foreach (int id in ids.Values)
        {
            string part = decoder.Append(id);
            Assert.True(part.Length == 0 || (!char.IsLowSurrogate(part[0]) && !char.IsHighSurrogate(part[^1])));
            whole.Append(part);
        }

        Assert.Equal(TextFixtures.Demo.Decode(ids.Values), whole.Append(decoder.Flush()).ToString());
        Assert.Equal("", decoder.Flush());
    }

    [Fact]
    public void An_id_that_does_not_exist_leaves_the_stream_as_it_was()
    {
        var decoder = new StreamingDecoder(TextFixtures.Demo);
        Assert.Equal("", decoder.Append(217 + 0xC3));
        Assert.Throws<ArgumentOutOfRangeException>(() => decoder.Append(4096));
        Assert.Equal("é", decoder.Append(217 + 0xA9));
    }

    [Fact]
    public void A_lone_surrogate_is_read_as_a_replacement_character() =>
        Assert.Equal(TextFixtures.Demo.Encode("a\uFFFDb"), TextFixtures.Demo.Encode("a\uD83Db"));
}
