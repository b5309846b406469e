using KernelScope.Text;

namespace KernelScope.Tests.Text;

/// <summary>Tokens that a folder adds to its vocabulary, and the files that list them.</summary>
public class AddedTokenTests
{
    private const string Config =
        """{"added_tokens_decoder": {"4096": {"content": "<|im_start|>", "special": true}, "4097": {"content": "<|im_end|>", "special": true}, "4098": {"content": "<|im_end|>>", "special": false, "normalized": false}}}""";

    [Theory]
    [InlineData("added_tokens.json", """{"<|im_start|>": 4096, "<|im_end|>": 4097, "<|im_end|>>": 4098}""")]
    [InlineData("tokenizer_config.json", Config)]
    [InlineData("tokenizer.json",
        """{"version": "1.0", "added_tokens": [{"id": 4096, "content": "<|im_start|>", "special": true}, {"id": 4097, "content": "<|im_end|>", "special": true}, {"id": 4098, "content": "<|im_end|>>", "normalized": false}], "model": {"vocab": "is not looked at"}}""")]
    public void They_are_cut_out_first_and_longest_first_whichever_file_lists_them(string file, string json)
    {
        using TextFolder folder = TextFolder.WithModel().Write(file, json);
        GemmaTokenizer tokenizer = GemmaTokenizer.Open(folder.Model)!;
        Assert.Equal([4096, 562], tokenizer.Encode("<|im_start|>user"));
        Assert.Equal([.. TextFixtures.Demo.Encode("hi"), 4097, .. TextFixtures.Demo.Encode("\nyou")],
            tokenizer.Encode("hi<|im_end|>\nyou"));
        Assert.Equal([4098, 4097], tokenizer.EncodeUtf8("<|im_end|>><|im_end|>"u8));
        Assert.Equal(TextFixtures.Demo.Encode("no token <|im_start| here"), tokenizer.Encode("no token <|im_start| here"));
        Assert.Equal("user<|im_start|>", tokenizer.Decode([562, 4096]));
        var stream = new StreamingDecoder(tokenizer);
        Assert.Equal("<|im_end|>>", stream.Append(4098) + stream.Flush());
        Assert.Equal((4099, "<|im_start|>", true, false),
            (tokenizer.PieceCount, tokenizer.Piece(4096), tokenizer.IsUserDefined(4096), tokenizer.IsControl(4096)));
        Assert.True(tokenizer.TryGetId("<|im_end|>", out int id) && id == 4097);
    }

    [Fact]
    public void Flags_mean_what_they_mean_in_the_tokenizers_library()
    {
        const string Flags = """
            {"added_tokens_decoder": {"4096": {"content": "<l>", "lstrip": true}, "4097": {"content": "<r>", "rstrip": true, "normalized": false}, "4098": {"content": "word", "single_word": true, "normalized": false}, "4099": {"content": "a b", "normalized": true}}}
            """;
        using TextFolder folder = TextFolder.WithModel().Write("tokenizer_config.json", Flags);
        GemmaTokenizer tokenizer = GemmaTokenizer.Open(folder.Model)!;
        int[] Plain(string text) => TextFixtures.Demo.Encode(text);
        Assert.Equal([.. Plain("x"), 4097, .. Plain("y")], tokenizer.Encode("x<r> \t y"));
        // A normalized token (the default of one that is not special) sees U+2581, which is not white space.
        Assert.Equal([.. Plain("x "), 4096], tokenizer.Encode("x <l>"));
        Assert.Equal([4098, .. Plain(" words")], tokenizer.Encode("word words"));
        Assert.Equal([4099], tokenizer.Encode("a b"));
        Assert.Equal([4099], tokenizer.Encode("a\u2581b"));
    }

    [Fact]
    public void The_symbols_and_control_pieces_that_transformers_lists_too_stay_what_they_are()
    {
        const string Listed =
            """{"added_tokens_decoder": {"0": {"content": "<pad>", "special": true}, "2": {"content": "<bos>", "special": true}, "3": {"content": "<unk>", "special": true}, "106": {"content": "<start_of_turn>", "special": true}, "108": {"content": "\n", "normalized": false}}}""";
        using TextFolder folder = TextFolder.WithModel().Write("tokenizer_config.json", Listed);
        GemmaTokenizer tokenizer = GemmaTokenizer.Open(folder.Model)!;
        foreach (string text in (string[])["<bos>Hi", "<start_of_turn>user\n\n\nHi", "a\n", "<unk>"])
            Assert.Equal(TextFixtures.Demo.Encode(text), tokenizer.Encode(text));
        Assert.Equal("x", tokenizer.Decode([2, .. tokenizer.Encode("x"), 0]));
        Assert.True(tokenizer.IsControl(2));
    }

    [Fact]
    public void A_token_may_take_the_id_of_an_unused_piece_or_leave_ids_free()
    {
        using TextFolder folder = TextFolder.WithModel().Write("added_tokens.json", """{"<|tool|>": 7, "<|far|>": 4100}""");
        GemmaTokenizer tokenizer = GemmaTokenizer.Open(folder.Model)!;
        Assert.Equal([7, 4100], tokenizer.Encode("<|tool|><|far|>"));
        Assert.Equal("<|tool|><|far|>", tokenizer.Decode([7, 4100]));
        Assert.True(tokenizer.Contains(4100) && !tokenizer.Contains(4098) && !tokenizer.Contains(4101));
        Assert.Contains("4098", Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([4098])).Message,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("added_tokens.json", """{"<a>": 4096, "<b>": 4096}""", "4096", "<a>")]
    [InlineData("added_tokens.json", """{"<a>": -1}""", "<a>", "-1")]
    [InlineData("added_tokens.json", """{"<a>": 4096.0}""", "<a>", "4096.0")]
    [InlineData("added_tokens.json", """{"<a>": 99999999}""", "<a>", "99999999")]
    [InlineData("added_tokens.json", """["<a>"]""", "a list", "object")]
    [InlineData("added_tokens.json", """{"<a>": 4096, "<a>": 4097}""", "JSON", "")]
    [InlineData("tokenizer_config.json", """{"added_tokens_decoder": {"x": {"content": "<a>"}}}""", "added_tokens_decoder", "'x'")]
    [InlineData("tokenizer_config.json", """{"added_tokens_decoder": {"4096": {}}}""", "added_tokens_decoder[4096]", "content")]
    [InlineData("tokenizer_config.json", """{"added_tokens_decoder": {"4096": {"content": "<a>", "lstrip": 1}}}""",
        "added_tokens_decoder[4096].lstrip", "1")]
    [InlineData("tokenizer_config.json", """{"added_tokens_decoder": []}""", "added_tokens_decoder", "a list")]
    [InlineData("tokenizer.json", """{"added_tokens": [{"content": "<a>"}]}""", "added_tokens[0]", "id")]
    [InlineData("tokenizer.json", "[]", "object", "")]
    public void What_cannot_be_meant_is_refused_in_a_sentence_that_names_the_file(string file, string json, string word, string other)
    {
        using TextFolder folder = TextFolder.WithModel().Write(file, json);
        string said = Assert.Throws<InvalidDataException>(() => GemmaTokenizer.Open(folder.Model)).Message;
        Assert.StartsWith(folder.At(file) + ": ", said, StringComparison.Ordinal);
        Assert.Contains(word, said, StringComparison.Ordinal);
        Assert.Contains(other, said, StringComparison.Ordinal);
    }

    [Fact]
    public void Two_files_that_contradict_each_other_are_both_named()
    {
        using TextFolder folder = TextFolder.WithModel().Write("added_tokens.json", """{"<|im_end|>": 4200}""")
            .Write("tokenizer_config.json", Config);
        string said = Assert.Throws<InvalidDataException>(() => GemmaTokenizer.Open(folder.Model)).Message;
        Assert.Contains("added_tokens.json", said, StringComparison.Ordinal);
        Assert.Contains("tokenizer_config.json", said, StringComparison.Ordinal);
        Assert.Contains("4200", said, StringComparison.Ordinal);
    }

    [Fact]
    public void A_mark_that_an_editor_put_before_a_file_is_dropped()
    {
        using TextFolder folder = TextFolder.WithModel().Write("added_tokens.json", "\uFEFF{\"<|x|>\": 4096}");
        Assert.Equal([4096], GemmaTokenizer.Open(folder.Model)!.Encode("<|x|>"));
    }
}
