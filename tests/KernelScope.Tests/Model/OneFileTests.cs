using KernelScope.Cpu;
using KernelScope.Devices.Reference;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Samples;
using KernelScope.Text;

namespace KernelScope.Tests.Model;

/// <summary>src/Samples/Gemma2InOneFile.cs, which shares no line with the library, computes what the library computes.</summary>
public class OneFileTests
{
    /// <summary>As for the goldens of the demo: five to ten times what float32 departs from float64.</summary>
    private const double LogitLimit = 2e-4;

    private static readonly string Folder = Path.Combine(Fixtures.Root, "src", "KernelScope.Demo", "content", "model");

    private static PlainTokenizer OpenTokenizer() => new(File.ReadAllBytes(Path.Combine(Folder, "tokenizer.model")));

    [Theory]
    [InlineData("")]
    [InlineData("And the king said, Let there be light.")]
    [InlineData("  two  spaces, a\ttab,\n\n\nthree lines\r\n")]
    [InlineData("<start_of_turn>user\nWhat is a dog?<end_of_turn>\n<bos><eos>")]
    [InlineData("Straße, señor, ψυχή, 日本語, \U0001F600, \u2581 and <0x41>")]
    [InlineData("public static int Sum(int[] values) { return values.Sum(); } // 12345.678")]
    public void Its_token_ids_are_the_librarys(string text)
    {
        GemmaTokenizer library = KernelScope.Demo.OpenTokenizer();
        List<int> ids = OpenTokenizer().Encode(text);
        Assert.Equal(library.Encode(text), ids);
        Assert.Equal(library.Decode([.. ids]), OpenTokenizer().Decode(ids));
    }

    [Fact]
    public void Its_token_ids_of_the_demo_corpus_are_the_librarys() =>
        Assert.Equal(KernelScope.Demo.OpenTokenizer().EncodeUtf8(KernelScope.Demo.Corpus),
            OpenTokenizer().Encode(System.Text.Encoding.UTF8.GetString(KernelScope.Demo.Corpus)));

    /// <summary>100 tokens are more than the window of 64, so that the layers that slide differ from those that do not.</summary>
    [Fact]
    public void Its_logits_at_every_position_are_the_librarys()
    {
        using var device = new CpuDevice();
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        int[] tokens = [model.Config.BosId, .. KernelScope.Demo.OpenTokenizer().EncodeUtf8(KernelScope.Demo.Corpus)[..99]];
        using Session session = model.NewSession(tokens.Length, tokens.Length);
        float[] library = new float[tokens.Length * model.Config.VocabSize];
        device.Read(model.Forward(tokens, session, LogitRows.All), library);

        var plain = new PlainGemma2(Folder);
        double largest = 0;
        for (int t = 0; t < tokens.Length; t++)
        {
            float[] logits = plain.Forward(tokens[t]);
            for (int i = 0; i < logits.Length; i++)
                largest = Math.Max(largest, Math.Abs(logits[i] - library[(t * logits.Length) + i]));
        }

        Assert.True(largest <= LogitLimit, $"The largest difference of a logit is {largest:G3}.");
    }

    [Theory]
    [InlineData("There was once a girl called")]
    [InlineData("And it came to pass in those days")]
    public void Its_greedy_tokens_are_the_librarys(string text)
    {
        const int Count = 40;
        using var device = new ReferenceDevice();
        using var model = Gemma2Model.Load(device, KernelScope.Demo.OpenCheckpoint());
        int[] prompt = [model.Config.BosId, .. KernelScope.Demo.OpenTokenizer().Encode(text)];
        using Session session = model.NewSession(prompt.Length + Count);
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = Count, StopIds = [] });
        int[] library = [.. generator.Generate(prompt)];

        var plain = new PlainGemma2(Folder);
        float[] logits = [];
        foreach (int token in prompt)
            logits = plain.Forward(token);
        int[] greedy = new int[Count];
        for (int i = 0; i < Count; i++)
        {
            greedy[i] = Array.IndexOf(logits, logits.Max());
            logits = plain.Forward(greedy[i]);
        }

        Assert.Equal(library, greedy);
    }
}
