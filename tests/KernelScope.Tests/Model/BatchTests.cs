using KernelScope.Bench.Models;
using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Hooks;
using KernelScope.Measuring;
using KernelScope.Model;
using KernelScope.Tests.Cpu;

namespace KernelScope.Tests.Model;

/// <summary>Several sessions in one call: each gets what it gets alone, sees its own rows, and a call that fails changes none.</summary>
public sealed class BatchTests
{
    private static readonly string Demo = Path.Combine(Fixtures.Root, "src", "KernelScope.Demo", "content", "model");
    private static readonly string Tiny = Fixtures.Path("gemma2", "models", "base");

    // Sequences of different lengths (the demo's windows have 64 tokens, the tiny model's 6), which join and leave at different steps.
    private static readonly (int Prompt, int Joins, int Steps)[] Plans =
        [(3, 0, 9), (70, 0, 4), (17, 1, 7), (1, 2, 8), (33, 2, 3), (64, 3, 7), (9, 3, 2), (120, 4, 6), (65, 4, 5)];

    [Theory]
    [InlineData("reference", 0)]
    [InlineData("cpu", 1)]
    [InlineData("cpu", 2)]
    [InlineData("packed", 1)]
    [InlineData("packed", 2)]
    [InlineData("packed", 4)]
    public void A_sequence_gets_the_same_bits_whoever_shares_its_step(string device, int threads)
    {
        using Device opened = Open(device, threads);
        foreach (string folder in (string[])[Tiny, Fixtures.Path("gemma2", "models", "bf16"), Fixtures.Path("gemma2", "models", "f16"),
            Demo])
        {
            using Gemma2Model model = Gemma2Model.Open(opened, folder);
            AssertAsAlone(model);
        }
    }

    [Theory]
    [InlineData("reference")]
    [InlineData("cpu")]
    [InlineData("packed")]
    public void Prompts_and_steps_share_a_call(string device)
    {
        using Device opened = Open(device, 2);
        using Gemma2Model model = Gemma2Model.Open(opened, Tiny);
        int[][] tokens = [Tokens(model, 40, 1), Tokens(model, 23, 2), Tokens(model, 9, 3)];
        Session[] together = [.. tokens.Select(_ => model.NewSession())];
        model.Forward([new(together[0], tokens[0].AsMemory(0, 30), LogitRows.None), new(together[1], tokens[1].AsMemory(0, 1))]);
        Assert.Equal(0, together[0].Logits.Rows);
        model.Forward(
            [new(together[1], tokens[1].AsMemory(1, 20), LogitRows.None), new(together[2], tokens[2].AsMemory(0, 3)),
                new(together[0], tokens[0].AsMemory(30, 10), LogitRows.All)]);
        model.Forward([new(together[2], tokens[2].AsMemory(3)), new(together[1], tokens[1].AsMemory(21))]);
        for (int n = 0; n < tokens.Length; n++)
        {
            using Session alone = model.NewSession();
            float[] expected = Read(model, alone.Prefill(tokens[n]));
            Mat logits = together[n].Logits;
            Compare(expected, Read(model, logits.RowRange(logits.Rows - 1, 1)));
            Assert.Equal(tokens[n], together[n].Tokens.ToArray());
            Assert.Equal(n == 0 ? 10 : logits.Rows, logits.Rows);
            together[n].Dispose();
        }
    }

    [Theory]
    [InlineData("reference")]
    [InlineData("packed")]
    public void Hooks_see_the_rows_of_their_own_session_and_edit_no_other(string device)
    {
        using Device opened = Open(device, 2);
        using Gemma2Model model = Gemma2Model.Open(opened, Tiny);
        foreach (HookPoint point in HookPoint.All(model.Config.LayerCount))
        {
            using Session plain = model.NewSession(), edited = model.NewSession(), alone = model.NewSession();
            plain.Prefill([5, 6, 7]);
            edited.Prefill([9, 8, 7, 6]);
            alone.Prefill([9, 8, 7, 6]);
            var seen = new List<float[]>();
            void Edit(HookCall call, HookPoint at, Mat value)
            {
                Assert.Equal(point, at);
                Assert.Equal(4, call.Position);
                Assert.Equal([3, 4], call.Tokens.ToArray());
                Assert.Equal(2, value.Rows);
                seen.Add(Read(model, value));
                model.Device.AddScaled(value, 0.5f, value);
            }

            using (edited.Hooks.Add(point, Edit))
                model.Forward([new(plain, new int[] { 8, 9 }), new(edited, new int[] { 3, 4 })]);
            using (alone.Hooks.Add(point, Edit))
                model.Forward([3, 4], alone);
            Assert.Equal(2, seen.Count);
            Assert.Equal(seen[1], seen[0]);
            Assert.Equal(Read(model, alone.Logits), Read(model, edited.Logits));
            Assert.Equal(Read(model, alone.FinalNorm), Read(model, edited.FinalNorm));
            using Session unhooked = model.NewSession();
            unhooked.Prefill([5, 6, 7]);
            Assert.Equal(Read(model, model.Forward([8, 9], unhooked)), Read(model, plain.Logits));
        }
    }

    [Fact]
    public void What_a_call_left_stays_while_other_sessions_run()
    {
        using var device = new PackingDevice(2);
        using Gemma2Model model = Gemma2Model.Open(device, Tiny);
        using Session first = model.NewSession(), second = model.NewSession();
        model.Forward([new(first, new int[] { 2, 3, 4 }), new(second, new int[] { 5, 6 })]);
        float[] logits = Read(model, first.Logits), norm = Read(model, first.FinalNorm);
        double[] losses = new double[2], again = new double[2];
        model.NextTokenLoss([3, 4], first, losses);
        for (int t = 0; t < 5; t++)
            model.Forward([7], second);
        Assert.Equal(logits, Read(model, first.Logits));
        Assert.Equal(norm, Read(model, first.FinalNorm));
        model.NextTokenLoss([3, 4], first, again);
        Assert.Equal(losses, again);
    }

    [Fact]
    public void A_batch_that_cannot_run_says_which_entry_and_changes_none()
    {
        using var device = new ReferenceDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Tiny), other = Gemma2Model.Open(device, Tiny);
        using Session first = model.NewSession(contextLength: 8), second = model.NewSession(chunkLength: 2), foreign = other.NewSession();
        first.Prefill([2, 3]);
        var three = new ReadOnlyMemory<int>([4, 5, 6]);
        AssertRefused("Entries 0 and 1 of the batch are one session", new(first, three), new(first, three));
        AssertRefused("Entry 1 of the batch: The session belongs to another model", new(first, three), new(foreign, three));
        AssertRefused("Entry 1 of the batch: 3 tokens were fed in one call", new(first, three), new(second, three));
        AssertRefused("Entry 1 of the batch: A forward pass needs at least one token", new(first, three), new(second, default));
        AssertRefused("Entry 0 of the batch: The sequence would have 9 tokens", new(first, new int[] { 1, 2, 3, 4, 5, 6, 7 }),
            new(second, three));
        AssertRefused("Entry 1 of the batch has no session", new(first, three), default);
        Assert.Throws<ArgumentOutOfRangeException>(() => model.Forward([new(first, three), new(second, new int[] { 300 })]));
        Assert.Equal((2, 0), (first.Position, second.Position));
        model.Forward([]);
        model.Forward([new(first, three), new(second, new int[] { 7 })]);
        Assert.Equal((5, 1), (first.Position, second.Position));

        void AssertRefused(string message, SessionTokens a, SessionTokens b) =>
            Assert.StartsWith(message, Assert.Throws<ArgumentException>(() => model.Forward([a, b])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_call_that_is_cancelled_leaves_every_sequence_where_it_was()
    {
        using var device = new ReferenceDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Tiny);
        using Session first = model.NewSession(), second = model.NewSession(), alone = model.NewSession();
        first.Prefill([2, 3]);
        second.Prefill([4]);
        using var source = new CancellationTokenSource();
        using (second.Hooks.Add(new(Site.ResidPost, 1), (_, _, _) => source.Cancel()))
            Assert.Throws<OperationCanceledException>(
                () => model.Forward([new(first, new int[] { 9, 8 }), new(second, new int[] { 7 })], source.Token));
        Assert.Equal((2, 1), (first.Position, second.Position));
        model.Forward([new(first, new int[] { 5 }), new(second, new int[] { 6 })]);
        Assert.Equal(Read(model, alone.Prefill([2, 3, 5])), Read(model, first.Logits));
    }

    [Fact]
    public void A_session_is_for_one_caller_at_a_time()
    {
        using var device = new ReferenceDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Tiny);
        using Session session = model.NewSession(), other = model.NewSession();
        var failures = new List<Exception?>();
        void Misuse(HookCall call, HookPoint point, Mat value)
        {
            failures.Add(Record.Exception(() => model.Forward([1], session)));
            failures.Add(Record.Exception(() => session.Prefill([1])));
            failures.Add(Record.Exception(() => model.Forward([new(other, new int[] { 1 }), new(session, new int[] { 1 })])));
            failures.Add(Record.Exception(session.Reset));
            failures.Add(Record.Exception(() => model.NextTokenLoss([1], session, new double[1])));
        }

        using (session.Hooks.Add(new(Site.ResidPost, 0), Misuse))
            model.Forward([2, 3], session);
        Assert.Equal(5, failures.Count);
        Assert.All(failures, f => Assert.IsType<InvalidOperationException>(f));
        Assert.Equal((2, 0), (session.Position, other.Position));

        using (SessionHold hold = session.Hold())
        {
            Assert.Throws<InvalidOperationException>(() => model.Forward([1], session));
            Assert.Throws<InvalidOperationException>(session.Reset);
            Assert.Throws<InvalidOperationException>(() => session.Hold());
            hold.Forward([4]);
            model.NextTokenLoss([1], session, new double[1]);
        }

        model.Forward([5], session);
        Assert.Equal([2, 3, 4, 5], session.Tokens.ToArray());
        session.Reset();
        Assert.Equal(0, session.Position);
    }

    [Fact]
    public void A_disposed_session_is_refused()
    {
        using var device = new ReferenceDevice();
        using Gemma2Model model = Gemma2Model.Open(device, Tiny);
        using Session other = model.NewSession();
        Session session = model.NewSession();
        session.Prefill([2, 3]);
        session.Dispose();
        session.Dispose();
        Assert.Throws<ObjectDisposedException>(() => model.Forward([1], session));
        Assert.Throws<ObjectDisposedException>(() => model.Forward([new(other, new int[] { 1 }), new(session, new int[] { 1 })]));
        Assert.Throws<ObjectDisposedException>(() => session.Prefill([1]));
        Assert.Throws<ObjectDisposedException>(session.Reset);
        Assert.Throws<ObjectDisposedException>(() => session.Logits);
        Assert.Throws<ObjectDisposedException>(() => model.NextTokenLoss([1], session, new double[1]));
        Assert.Equal(0, other.Position);
        other.Prefill([1]);
    }

    [Fact]
    public void Sessions_and_steps_of_a_batch_allocate_nothing_that_grows()
    {
        using var device = new PackingDevice(2);
        using Gemma2Model model = Gemma2Model.Open(device, Demo);
        Session[] sessions = [.. Enumerable.Range(0, 8).Select(_ => model.NewSession())];
        var batch = new SessionTokens[sessions.Length];
        for (int n = 0; n < batch.Length; n++)
            batch[n] = new(sessions[n], new int[] { 5 + n });
        for (int t = 0; t < 70; t++)
            model.Forward(batch);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int t = 0; t < 20; t++)
            model.Forward(batch);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        before = GC.GetAllocatedBytesForCurrentThread();
        using Session created = model.NewSession();
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, 16 << 10);
        foreach (Session session in sessions)
            session.Dispose();
    }

    /// <summary>Layers, key/value heads, head size and context are 2B's; what a session does not depend on is small. Half of what the project promises (64 KB).</summary>
    [Fact]
    public void A_session_of_2B_takes_little_managed_memory_from_the_first_on()
    {
        using var folder = new Files.TempFolder();
        RandomModel.Write(folder.Path,
            ModelSizes.Create(64, 64, layers: 26, heads: 8, kvHeads: 4, headDim: 256, queryScalar: 256) with { VocabSize = 304 });
        using var device = new CpuDevice(1);
        using Gemma2Model model = Gemma2Model.Open(device, folder.Path);
        for (int n = 0; n < 2; n++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            using Session session = model.NewSession();
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, 32 << 10);
            Assert.Equal(8192, session.ContextLength);
        }
    }

    /// <summary>Runs the plans in shared steps and compares each step of each sequence with the same sequence alone.</summary>
    private static void AssertAsAlone(Gemma2Model model)
    {
        int[][] tokens = [.. Plans.Select((p, n) => Tokens(model, p.Prompt + p.Steps, n))];
        List<float[]>[] alone = [.. Plans.Select((p, n) => Alone(model, tokens[n], p.Prompt))];
        var running = new List<(int Plan, Session Session)>();
        for (int step = 0; step == 0 || running.Count > 0; step++)
        {
            for (int n = 0; n < Plans.Length; n++)
            {
                if (Plans[n].Joins != step)
                    continue;
                running.Add((n, model.NewSession()));
                running[^1].Session.Prefill(tokens[n].AsSpan(0, Plans[n].Prompt));
            }

            Assert.InRange(running.Count, 1, 8);
            model.Forward([.. running.Select(r => new SessionTokens(r.Session, tokens[r.Plan].AsMemory(r.Session.Position, 1)))]);
            foreach ((int plan, Session session) in running)
                Compare(alone[plan][session.Position - Plans[plan].Prompt - 1], Read(model, session.Logits));
            foreach ((int plan, Session session) in running.Where(r => r.Session.Position == tokens[r.Plan].Length).ToArray())
            {
                session.Dispose();
                running.Remove((plan, session));
            }
        }
    }

    private static List<float[]> Alone(Gemma2Model model, int[] tokens, int prompt)
    {
        using Session session = model.NewSession();
        session.Prefill(tokens.AsSpan(0, prompt));
        return [.. tokens[prompt..].Select(token => Read(model, model.Forward([token], session)))];
    }

    private static void Compare(float[] expected, float[] actual) => Assert.True(expected.AsSpan().SequenceEqual(actual));

    private static int[] Tokens(Gemma2Model model, int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(model.Config.VocabSize))];
    }

    private static float[] Read(Gemma2Model model, Mat x)
    {
        float[] values = new float[x.Rows * x.Columns];
        model.Device.Read(x, values);
        return values;
    }

    private static Device Open(string device, int threads) => device switch
    {
        "reference" => new ReferenceDevice(),
        "cpu" => new CpuDevice(threads),
        _ => new PackingDevice(threads),
    };
}
