using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Model;
using KernelScope.Text;

namespace KernelScope.Tests.Generation;

/// <summary>What a generation gives out and what it leaves behind, on the demo model.</summary>
public sealed class GeneratorTests : IDisposable
{
    private static readonly GemmaTokenizer Tokenizer = KernelScope.Demo.OpenTokenizer();
    private readonly CpuDevice _device = new();
    private readonly Gemma2Model _model;

    public GeneratorTests() => _model = Gemma2Model.Load(_device, KernelScope.Demo.OpenCheckpoint());

    public void Dispose()
    {
        _model.Dispose();
        _device.Dispose();
    }

    /// <summary>Ways in which an enumeration ends: the number of tokens, a stop id, a stop string, a consumer that leaves.</summary>
    [Theory]
    [InlineData("length")]
    [InlineData("id")]
    [InlineData("string")]
    [InlineData("leaves")]
    public void The_next_turn_goes_on_from_a_complete_session(string end)
    {
        int[] prompt = Prompt("Once upon a time there lived"), turn = Tokenizer.Encode(" and the king said");
        using Session session = _model.NewSession();
        int[] free = [.. Generate(session, prompt, new GenerationOptions { MaxNewTokens = 12, StopIds = [] })];
        session.Reset();
        var options = new GenerationOptions
        {
            MaxNewTokens = end == "length" ? 8 : 40,
            StopIds = end == "id" ? [free[7]] : [],
            StopStrings = end == "string" ? [Tokenizer.Decode([free[7]])] : null,
        };
        var tokens = new List<int>();
        foreach (int id in new Generator(session, options, Tokenizer).Generate(prompt))
        {
            tokens.Add(id);
            if (end == "leaves" && tokens.Count == 8)
                break;
        }

        Assert.Equal(free[..tokens.Count], tokens);
        int[] sequence = [.. prompt, .. tokens];
        Assert.Equal(sequence, session.Tokens.ToArray());
        float[] continued = Logits(session.Prefill(turn));
        using Session whole = _model.NewSession();
        Assert.True(Compare.Largest(continued, Logits(whole.Prefill([.. sequence, .. turn]))) <= 1e-4);
    }

    /// <summary>The closing step, which feeds the last token, fails: what the consumer threw comes out all the same.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_consumers_exception_is_not_hidden_by_the_closing_step(bool isAsync)
    {
        int[] prompt = Prompt("Once upon a time");
        using Session session = _model.NewSession();
        bool fails = false;
        session.Hooks.Add(new(KernelScope.Hooks.Site.ResidPost, 2), (_, _, _) =>
        {
            if (fails)
                throw new TimeoutException("the hook's");
        });
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 8, StopIds = [] }, Tokenizer);
        await Assert.ThrowsAsync<FormatException>(async () =>
        {
            if (!isAsync)
            {
                foreach (GeneratedToken token in generator.GenerateTokens(prompt))
                    Fail();
            }

            await foreach (GeneratedToken token in generator.GenerateAsync(prompt))
                Fail();
        });
        Assert.Equal(prompt, session.Tokens.ToArray());
        // Nobody's exception is in the way of a step's own.
        session.Reset();
        fails = false;
        Assert.Throws<TimeoutException>(() =>
        {
            foreach (int id in new Generator(session, new GenerationOptions { MaxNewTokens = 1 }).Generate(prompt))
                fails = true;
        });
        fails = false;
        Assert.Equal(prompt, session.Tokens.ToArray());
        session.Reset();

        void Fail()
        {
            fails = true;
            throw new FormatException("the consumer's");
        }
    }

    [Fact]
    public void A_full_context_leaves_out_the_last_token_only()
    {
        int[] prompt = Prompt("Once upon a time");
        using Session session = _model.NewSession(prompt.Length + 3);
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 40, StopIds = [] });
        int[] tokens = [.. generator.Generate(prompt)];
        Assert.Equal((StopReason.ContextFull, 4), (generator.Stop, tokens.Length));
        Assert.Equal([.. prompt, .. tokens[..3]], session.Tokens.ToArray());
    }

    [Fact]
    public void No_new_tokens_leave_the_prompt_in_the_session()
    {
        int[] prompt = Prompt("Once upon a time");
        using Session session = _model.NewSession();
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 0 });
        Assert.Empty(generator.Generate(prompt));
        Assert.Equal(StopReason.MaxNewTokens, generator.Stop);
        Assert.Equal(prompt, session.Tokens.ToArray());
    }

    [Fact]
    public void A_session_is_the_generations_until_it_ends()
    {
        int[] prompt = Prompt("Once upon a time");
        using Session session = _model.NewSession();
        using IEnumerator<int> first = new Generator(session, new GenerationOptions()).Generate(prompt).GetEnumerator();
        Assert.True(first.MoveNext());
        Assert.Throws<InvalidOperationException>(() => new Generator(session, new GenerationOptions()).Generate(prompt).First());
        Assert.Throws<InvalidOperationException>(() => session.Reset());
        Assert.Throws<InvalidOperationException>(() => session.Rewind(1));
        Assert.Throws<InvalidOperationException>(() => session.Fork());
        Assert.Throws<InvalidOperationException>(() => session.Save(Path.Combine(Path.GetTempPath(), "never")));
        Assert.Throws<InvalidOperationException>(() => _model.Forward(prompt, session));
        Assert.True(first.MoveNext());
        first.Dispose();
        session.Reset();
        Assert.NotEmpty(new Generator(session, new GenerationOptions { MaxNewTokens = 2 }).Generate(prompt));
    }

    [Fact]
    public async Task Tokens_come_asynchronously_too_and_a_consumer_may_leave()
    {
        int[] prompt = Prompt("Once upon a time");
        using Session session = _model.NewSession();
        int[] expected = [.. Generate(session, prompt, new GenerationOptions { MaxNewTokens = 10, StopIds = [] })];
        session.Reset();
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 10, StopIds = [] }, Tokenizer);
        var tokens = new List<GeneratedToken>();
        await foreach (GeneratedToken token in generator.GenerateAsync(prompt))
            tokens.Add(token);
        Assert.Equal(expected, tokens.Select(t => t.Id));
        Assert.Equal(Tokenizer.Decode(expected), string.Concat(tokens.Select(t => t.Text)));

        session.Reset();
        await foreach (GeneratedToken token in generator.GenerateAsync(prompt))
        {
            if (token.Id == expected[4])
                break;
        }

        Assert.Equal([.. prompt, .. expected[..5]], session.Tokens.ToArray());
        session.Reset();
        using var cancelled = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (GeneratedToken token in generator.GenerateAsync(prompt, cancelled.Token))
                await cancelled.CancelAsync();
        });
        session.Reset();
    }

    [Fact]
    public void A_stop_string_ends_the_text_before_it_wherever_tokens_begin()
    {
        int[] prompt = Prompt("Once upon a time there lived");
        using Session session = _model.NewSession();
        string text = Tokenizer.Decode([.. Generate(session, prompt, new GenerationOptions { MaxNewTokens = 30, StopIds = [] })]);
        // Every place in the text where three letters stand that stood nowhere before.
        for (int at = 0; at + 3 <= text.Length; at += 5)
        {
            string stop = text.Substring(at, 3);
            string expected = text[..text.IndexOf(stop, StringComparison.Ordinal)];
            session.Reset();
            var generator =
                new Generator(session, new GenerationOptions { MaxNewTokens = 30, StopIds = [], StopStrings = ["never in it", stop] },
                    Tokenizer);
            string given = "";
            foreach (GeneratedToken token in generator.GenerateTokens(prompt))
            {
                given += token.Text;
                Assert.True(expected.StartsWith(given, StringComparison.Ordinal), $"'{given}' went beyond '{expected}'");
            }

            Assert.Equal(expected, given);
            Assert.Equal(StopReason.StopString, generator.Stop);
        }
    }

    [Fact]
    public void A_stop_string_of_many_bytes_is_found_across_byte_tokens()
    {
        var stop = new StopText(["→🌊", "xyz"]);
        var decoder = new StreamingDecoder(Tokenizer);
        string given = "";
        foreach (int id in Tokenizer.Encode("ab→🌲 xy →🌊 more"))
            given += stop.Append(decoder.Append(id));
        Assert.True(stop.Found);
        Assert.Equal("ab→🌲 xy ", given);
        var unfinished = new StopText(["xyz"]);
        Assert.Equal("ab", unfinished.Append("abxy"));
        Assert.Equal("xy", unfinished.Flush());
        Assert.False(unfinished.Found);
        Assert.Throws<ArgumentException>(() => new StopText([""]));
    }

    [Fact]
    public void Stop_strings_need_a_tokenizer()
    {
        using Session session = _model.NewSession();
        Assert.Throws<ArgumentException>(() => new Generator(session, new GenerationOptions { StopStrings = ["x"] }));
        Assert.Throws<ArgumentException>(() => new Generator(session, new GenerationOptions { Sampling = null! }));
    }

    [Fact]
    public void The_token_that_ends_a_text_has_none()
    {
        using Session session = _model.NewSession();
        int[] prompt = Prompt("Once upon a time");
        int[] free = [.. Generate(session, prompt, new GenerationOptions { MaxNewTokens = 6, StopIds = [] })];
        session.Reset();
        GeneratedToken[] tokens =
            [.. new Generator(session, new GenerationOptions { StopIds = [free[5]] }, Tokenizer).GenerateTokens(prompt)];
        Assert.Equal("", tokens[^1].Text);
        Assert.Equal(Tokenizer.Decode(free.AsSpan(0, 5)), string.Concat(tokens.Select(t => t.Text)));
    }

    /// <summary>ln p = l − ln Σ exp l, by arithmetic on the logits themselves.</summary>
    [Fact]
    public void Log_probabilities_are_those_of_the_models_own_distribution()
    {
        int[] prompt = Prompt("And the king said");
        using Session session = _model.NewSession();
        var options =
            new GenerationOptions
            {
                MaxNewTokens = 5,
                StopIds = [],
                LogProbs = 4,
                Sampling = new SamplingOptions
                {
                    Temperature = 3,
                    Seed = 5,
                    RepetitionPenalty = 2,
                    LogitBias = new Dictionary<int, double> { [700] = 8 }
                }
            };
        GeneratedToken[] tokens = [.. new Generator(session, options, Tokenizer).GenerateTokens(prompt)];
        using Session again = _model.NewSession();
        Mat logits = again.Prefill(prompt);
        foreach (GeneratedToken token in tokens)
        {
            double[] row = [.. Logits(logits).Select(l => (double)l)];
            double sum = Math.Log(row.Sum(l => Math.Exp(l - row.Max()))) + row.Max();
            Assert.Equal(row[token.Id] - sum, token.LogProb!.Value, 1e-9);
            int[] order = [.. Enumerable.Range(0, row.Length).OrderByDescending(i => row[i]).ThenBy(i => i).Take(4)];
            Assert.Equal(order, token.Top!.Select(t => t.Id));
            Assert.Equal(order.Select(i => row[i] - sum), token.Top!.Select(t => t.LogProb), (a, b) => Math.Abs(a - b) < 1e-9);
            logits = _model.Forward([token.Id], again);
        }
    }

    [Fact]
    public void No_seed_is_a_fresh_one_and_it_gives_the_same_text_again()
    {
        int[] prompt = Prompt("Once upon a time");
        using Session session = _model.NewSession();
        var options = new GenerationOptions { MaxNewTokens = 12, StopIds = [], Sampling = new SamplingOptions { Temperature = 1.5 } };
        var generator = new Generator(session, options);
        int[] first = [.. generator.Generate(prompt)];
        ulong seed = generator.Seed!.Value;
        session.Reset();
        Assert.Equal(first, new Generator(session, options with { Sampling = options.Sampling with { Seed = seed } }).Generate(prompt));
        session.Reset();
        _ = generator.Generate(prompt).Count();
        Assert.NotEqual(seed, generator.Seed);
        session.Reset();
        var greedy = new Generator(session, new GenerationOptions { MaxNewTokens = 1 });
        _ = greedy.Generate(prompt).Count();
        Assert.Null(greedy.Seed);
    }

    private static IEnumerable<int> Generate(Session session, int[] prompt, GenerationOptions options) =>
        new Generator(session, options).Generate(prompt);

    private static int[] Prompt(string text) => [2, .. Tokenizer.Encode(text)];

    private float[] Logits(Mat row)
    {
        float[] values = new float[row.Columns];
        _device.Read(row, values);
        return values;
    }
}
