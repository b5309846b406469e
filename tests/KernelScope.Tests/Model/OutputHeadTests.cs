using System.Text.Json.Nodes;
using KernelScope.Attribution;
using KernelScope.Cli.Inspection;
using KernelScope.Cpu;
using KernelScope.Cpu.Packing;
using KernelScope.Cpu.Panels;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Model;

/// <summary>
/// A head that is not the embedding. References: transformers' logits of the tied model, moved by one id where the head is the embedding moved by one row; and arithmetic in double on the
/// captured final norm, which other tests hold against transformers.
/// </summary>
public sealed class OutputHeadTests : IDisposable
{
    private const string Embedding = "model.embed_tokens.weight", Head = "lm_head.weight";
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, string, string> DevicesModelsAndTypes()
    {
        var data = new TheoryData<string, string, string>();
        foreach (string device in TestDevices.All)
        {
            data.Add(device, "base", "F32");
            data.Add(device, "base", "BF16");
            data.Add(device, "base", "F16");
            data.Add(device, "bf16", "F32");
            data.Add(device, "f16", "BF16");
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(DevicesModelsAndTypes))]
    public void Logits_and_losses_are_those_of_the_head(string deviceName, string name, string type)
    {
        (string folder, float[] head) = RandomHead(name, type);
        using Device device = TestDevices.Open(deviceName);
        using Gemma2Model model = Gemma2Model.Open(device, folder);
        Check(model, Tokens(name), head);
    }

    [Theory]
    [InlineData("BF16")]
    [InlineData("F32")]
    public void Panels_hold_the_head_once_and_not_the_embedding(string type)
    {
        (string folder, float[] head) = RandomHead("bf16", type);
        string panels = _folder.At("head.panels");
        using (Gemma2Checkpoint checkpoint = Gemma2Checkpoint.Open(folder))
        {
            Assert.Contains(Head, checkpoint.MatrixNames);
            Assert.DoesNotContain(Embedding, checkpoint.MatrixNames);
            ModelPanels.Write(checkpoint, panels);
        }

        using var device = new CpuDevice();
        Gemma2Checkpoint packed = Gemma2Checkpoint.Open(folder);
        ModelPanels.Use(device.Panels, packed, PanelFile.Open(panels));
        using Gemma2Model model = Gemma2Model.Load(device, packed);
        Check(model, Tokens("bf16"), head);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_head_that_is_the_embedding_moved_by_one_id_moves_transformers_logits_by_one(bool ties)
    {
        string folder = MovedHead("base", ties);
        using Device device = TestDevices.Open("reference");
        using Gemma2Model model = Gemma2Model.Open(device, folder);
        using var expected = new NpzArrays(Fixtures.Path("gemma2", "models", "base", "expected.npz"));
        float[] tied = expected.Floats("logits");
        int vocabulary = model.Config.VocabSize;
        float[] moved = new float[tied.Length];
        for (int i = 0; i < tied.Length; i++)
            moved[i - (i % vocabulary) + ((i + 1) % vocabulary)] = tied[i];
        Assert.True(Compare.Relative(Logits(model, Tokens("base")), moved) <= 1e-4);
    }

    [Fact]
    public void Gradients_go_back_through_the_head()
    {
        int[] tokens = [2, 40, 77, 5, 113, 20, 8, 9, 41, 6];
        var point = new HookPoint(Site.ResidPost, 0);
        using Device device = TestDevices.Open("reference");
        float[] Gradient(string folder, int move)
        {
            using Gemma2Model model = Gemma2Model.Open(device, folder);
            using var gradient = new StreamGradient(model, tokens.Length);
            gradient.Forward(tokens, 0);
            return gradient.Backward([point], (t, _, seed) => seed[(tokens[t] + move) % seed.Length] = 1)[point];
        }

        // Torch's autograd holds the tied model's gradients (GradientTests).
        float[] tied = Gradient(Fixtures.Path("gemma2", "models", "base"), 0), moved = Gradient(MovedHead("base", ties: true), 1);
        Assert.True(tied.Max(Math.Abs) > 0);
        Assert.True(Compare.Relative(moved, tied) <= 1e-6);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_head_with_the_bits_of_the_embedding_is_the_embedding(bool ties)
    {
        string folder = Altered("bf16", t => t[Head] = t[Embedding], ties);
        using Device device = TestDevices.Open("cpu");
        using Gemma2Model model = Gemma2Model.Open(device, folder);
        Assert.Same(model.Weights.Embedding, model.Unembedding);
        using Gemma2Checkpoint with = Gemma2Checkpoint.Open(folder),
            without = Gemma2Checkpoint.Open(Fixtures.Path("gemma2", "models", "bf16"));
        Assert.True(with.IsTied);
        Assert.Equal(without.WeightBytes, with.WeightBytes);
        Assert.Equal(without.MatrixNames, with.MatrixNames);
        Assert.Equal(Fingerprint.Of(without), Fingerprint.Of(with));
        Assert.Contains(with.Remarks, r => r.Contains(Head, StringComparison.Ordinal));
    }

    [Fact]
    public void A_head_of_its_own_counts_in_the_sizes_and_in_what_tells_models_apart()
    {
        using Gemma2Checkpoint moved = Gemma2Checkpoint.Open(MovedHead("bf16", ties: true)),
            tied = Gemma2Checkpoint.Open(Fixtures.Path("gemma2", "models", "bf16"));
        Assert.False(moved.IsTied);
        Assert.Equal(tied.WeightBytes + tied.Embedding.ByteLength, moved.WeightBytes);
        Assert.NotEqual(Fingerprint.Of(tied), Fingerprint.Of(moved));
    }

    [Theory]
    [InlineData("one row less", "lm_head.weight")]
    [InlineData("turned round", "lm_head.weight")]
    [InlineData("integers", "I32")]
    [InlineData("missing", "tie_word_embeddings false")]
    public void A_head_that_cannot_be_is_refused_also_by_inspect(string fault, string word)
    {
        string folder = Altered(
            "base",
            t =>
            {
                StoredTensor e = t[Embedding];
                int row = e.Bytes.Length / (int)e.Shape[0];
                if (fault == "one row less")
                    t[Head] = new(e.Type, [e.Shape[0] - 1, e.Shape[1]], e.Bytes[row..]);
                else if (fault == "turned round")
                    t[Head] = new(e.Type, [e.Shape[1], e.Shape[0]], e.Bytes);
                else if (fault == "integers")
                    t[Head] = e with { Type = "I32" };
            },
            ties: fault != "missing");
        Assert.Contains(word, Assert.Throws<InvalidDataException>(() => Gemma2Checkpoint.Open(folder)).Message, StringComparison.Ordinal);
        InspectionResult result = Inspector.Inspect(folder, new InspectOptions());
        Assert.False(result.Ok);
        Assert.Contains(word, result.Error!, StringComparison.Ordinal);
    }

    private static int[] Tokens(string name) => Fixtures.Tokens(Fixtures.Path("gemma2", "models", name, "tokens.json"));

    private string Altered(string name, Action<Dictionary<string, StoredTensor>> change, bool ties)
    {
        string folder = _folder.At(Path.GetRandomFileName());
        StoredTensors.CopyModel(
            Fixtures.Path("gemma2", "models", name),
            folder,
            t =>
            {
                change(t);
                return t;
            },
            config => config["tie_word_embeddings"] = JsonValue.Create(ties));
        return folder;
    }

    private string MovedHead(string name, bool ties) => Altered(
        name,
        t =>
        {
            StoredTensor e = t[Embedding];
            int row = e.Bytes.Length / (int)e.Shape[0];
            t[Head] = e with { Bytes = [.. e.Bytes[^row..], .. e.Bytes[..^row]] };
        },
        ties);

    private (string Folder, float[] Values) RandomHead(string name, string type)
    {
        var random = new Random(3);
        float[] values = [];
        string folder = Altered(
            name,
            t =>
            {
                long[] shape = t[Embedding].Shape;
                float[] any = [.. Enumerable.Range(0, (int)(shape[0] * shape[1])).Select(_ => (float)((random.NextDouble() - 0.5) * 0.5))];
                (t[Head], values) = StoredTensors.Of(type, any, shape);
            },
            ties: true);
        return (folder, values);
    }

    private static float[] Logits(Gemma2Model model, int[] tokens)
    {
        using Session session = model.NewSession(chunkLength: tokens.Length);
        Mat logits = model.Forward(tokens, session, LogitRows.All);
        float[] values = new float[logits.Rows * logits.Columns];
        model.Device.Read(logits, values);
        return values;
    }

    private static void Check(Gemma2Model model, int[] tokens, float[] head)
    {
        using Session session = model.NewSession(chunkLength: tokens.Length);
        float[] norm;
        using (var cache = new ActivationCache(session.Hooks, [new HookPoint(Site.FinalNorm)], tokens.Length))
        {
            model.Forward(tokens, session, LogitRows.None);
            norm = cache.Values(new HookPoint(Site.FinalNorm)).ToArray();
        }

        int width = model.Config.ModelDim, vocabulary = model.Config.VocabSize;
        double cap = model.Config.FinalSoftcap;
        float[] expected = new float[tokens.Length * vocabulary];
        Parallel.For(0, tokens.Length, t =>
        {
            for (int v = 0; v < vocabulary; v++)
            {
                double dot = 0;
                for (int j = 0; j < width; j++)
                    dot += (double)norm[(t * width) + j] * head[(v * width) + j];
                expected[(t * vocabulary) + v] = (float)(cap == 0 ? dot : cap * Math.Tanh(dot / cap));
            }
        });
        Assert.True(Compare.Relative(Logits(model, tokens), expected) <= 2e-5, "logits");

        double[] losses = new double[tokens.Length - 1];
        model.NextTokenLoss(tokens.AsSpan(1), session, losses);
        for (int t = 0; t < losses.Length; t++)
        {
            float[] row = expected[(t * vocabulary)..((t + 1) * vocabulary)];
            double max = row.Max(), loss = max + Math.Log(row.Sum(l => Math.Exp(l - max))) - row[tokens[t + 1]];
            Assert.Equal(loss, losses[t], 1e-4);
        }
    }
}
