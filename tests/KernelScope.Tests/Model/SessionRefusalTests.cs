using KernelScope.Devices;
using KernelScope.Devices.Reference;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Tests.Model;

/// <summary>What would give wrong numbers, lose a file or lock a session is refused before it does.</summary>
public sealed class SessionRefusalTests : IDisposable
{
    private static readonly string Tiny = Fixtures.Path("gemma2", "models", "base");
    private readonly ReferenceDevice _device = new();
    private readonly Gemma2Model _model;

    public SessionRefusalTests() => _model = Gemma2Model.Open(_device, Tiny);

    public void Dispose()
    {
        _model.Dispose();
        _device.Dispose();
    }

    [Fact]
    public void A_sequence_that_ran_through_a_part_of_the_layers_does_not_go_on_as_a_whole_one()
    {
        using Session session = _model.NewSession(), whole = _model.NewSession();
        session.Prefill([2, 3]);
        _model.ForwardTo(1, [4, 5], session);
        _model.ForwardTo(1, [6], session);
        string place = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        foreach (Action act in (Action[])[() => _model.Forward([7], session), () => session.Prefill([7]), () => session.Fork(),
            () => session.Save(place),
            () => _model.Forward([new(session, new int[] { 7 })]), () => Generate(new Generator(session, new GenerationOptions()), [7])])
            Assert.Contains("From position 2 on", Assert.Throws<InvalidOperationException>(act).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(place));
        float[] expected = Row(whole.Prefill([2, 3, 4, 5, 6]));
        Assert.Equal(expected, Row(session.PrefillSequence([2, 3, 4, 5, 6])));
        _model.ForwardTo(1, [7], session);
        session.Rewind(5);
        Assert.Equal(Row(_model.Forward([8], whole)), Row(_model.Forward([8], session)));
    }

    [Fact]
    public void An_embedding_below_the_last_layer_leaves_a_session_that_starts_anew()
    {
        using Session session = _model.NewSession(), whole = _model.NewSession();
        TextEmbedding.Embed(session, [2, 30, 40], new EmbeddingOptions { Site = new(Site.ResidPost, 0) });
        Assert.Throws<InvalidOperationException>(() => _model.Forward([7], session));
        session.Reset();
        Assert.Equal(Row(whole.Prefill([2, 30])), Row(session.Prefill([2, 30])));
    }

    [Fact]
    public void A_session_is_not_saved_over_the_files_of_its_model()
    {
        string folder = Directory.CreateTempSubdirectory("kernelscope-refusal-").FullName;
        try
        {
            foreach (string file in Directory.GetFiles(Tiny))
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
            string weights = Directory.GetFiles(folder, "*.safetensors")[0], link = Path.Combine(folder, "link"),
                free = Path.Combine(folder, "session");
            File.CreateSymbolicLink(link, weights);
            byte[] before = File.ReadAllBytes(weights);
            Gemma2Model model = Gemma2Model.Open(_device, folder);
            using Session session = model.NewSession();
            session.Prefill([2, 3]);
            Assert.Throws<IOException>(() => session.Save(weights));
            Assert.Throws<IOException>(() => session.Save(link));
            Assert.Equal(before, File.ReadAllBytes(weights));
            session.Save(free);
            model.Dispose();
            Assert.Throws<ObjectDisposedException>(() => session.Save(free));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task A_holder_waits_for_a_reader_and_a_session_is_free_when_both_have_left()
    {
        using Session session = _model.NewSession();
        SessionHold hold = session.Hold();
        session.EnterToRead();
        Task call = Task.Run(() => hold.Forward([2]));
        Assert.NotSame(call, await Task.WhenAny(call, Task.Delay(50)));
        session.Leave();
        await call;
        session.EnterToRead();
        hold.Dispose();
        Assert.Throws<InvalidOperationException>(() => _model.Forward([3], session));
        session.Leave();
        _model.Forward([3], session);
        Assert.Equal(2, session.Position);
    }

    [Fact]
    public void A_refused_generation_does_not_carry_the_running_one_past_its_stop()
    {
        using Session session = _model.NewSession(), other = _model.NewSession();
        int first = new Generator(other, new GenerationOptions { MaxNewTokens = 1, StopIds = [] }).Generate(new int[] { 2, 3 }).Single();
        var generator = new Generator(session, new GenerationOptions { MaxNewTokens = 5, StopIds = [first] });
        int count = 0;
        foreach (int token in generator.Generate(new int[] { 2, 3 }))
        {
            count++;
            Assert.Throws<InvalidOperationException>(() => Generate(generator, [2]));
        }

        Assert.Equal(1, count);
        Assert.NotEqual(StopReason.None, generator.Stop);
    }

    [Fact]
    public void Captures_drop_the_rows_of_a_call_that_was_cancelled()
    {
        using Session session = _model.NewSession();
        using var cache = new ActivationCache(session.Hooks, [new(Site.ResidPost, 0)]);
        session.Prefill([2, 3]);
        using var source = new CancellationTokenSource();
        using (session.Hooks.Add(new(Site.ResidPost, 0), (_, _, _) => source.Cancel()))
            Assert.Throws<OperationCanceledException>(() => _model.Forward([4, 5], session, cancellationToken: source.Token));
        Assert.Equal((2, 2), (session.Position, cache.Rows(new(Site.ResidPost, 0))));
    }

    [Fact]
    public void Tokens_are_checked_before_anything_is_computed_or_dropped()
    {
        using Session session = _model.NewSession(contextLength: 8, chunkLength: 2);
        session.Prefill([2, 3]);
        int[] bad = [2, 3, 4, _model.Config.VocabSize], many = [2, 3, 4, 5, 6, 7, 8, 9, 10];
        foreach (int[] tokens in (int[][])[bad, many])
        {
            Assert.ThrowsAny<ArgumentException>(() => session.Prefill(tokens));
            Assert.ThrowsAny<ArgumentException>(() => session.PrefillSequence(tokens));
            Assert.ThrowsAny<ArgumentException>(() => TextEmbedding.Embed(session, tokens));
            Assert.ThrowsAny<ArgumentException>(() => Generate(new Generator(session, new GenerationOptions()), tokens));
            Assert.Equal([2, 3], session.Tokens.ToArray());
        }
    }

    [Fact]
    public void A_batch_entry_that_is_far_too_long_costs_no_memory()
    {
        using Session session = _model.NewSession();
        int[] huge = new int[50_000_000];
        long before = GC.GetTotalAllocatedBytes();
        Assert.StartsWith("Entry 0", Assert.Throws<ArgumentException>(() => _model.Forward([new(session, huge)])).Message,
            StringComparison.Ordinal);
        Assert.InRange(GC.GetTotalAllocatedBytes() - before, 0, 50_000_000);
    }

    [Fact]
    public void Losses_need_room_and_targets_of_the_vocabulary()
    {
        using Session session = _model.NewSession();
        session.Prefill([2, 3, 4]);
        Assert.Contains("room for 1", Assert.Throws<ArgumentException>(() => _model.NextTokenLoss([3, 4], session, new double[1])).Message,
            StringComparison.Ordinal);
        Assert.Contains("vocabulary", Assert.ThrowsAny<ArgumentException>(() => _model.NextTokenLoss([-1], session, new double[1])).Message,
            StringComparison.Ordinal);
        Assert.ThrowsAny<ArgumentException>(() => _model.NextTokenLoss([_model.Config.VocabSize], session, new double[1]));
    }

    private static int[] Generate(Generator generator, int[] prompt) => [.. generator.Generate(prompt)];

    private static float[] Row(Mat logits) => HostBuffer.Row(logits, logits.Rows - 1).ToArray();
}
