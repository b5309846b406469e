using KernelScope.Cuda;
using KernelScope.Devices;
using KernelScope.Model;
using KernelScope.Tests;
using KernelScope.Tests.Files;

namespace KernelScope.Gpu.Tests.Cuda;

/// <summary>A head that is not the embedding, on the CUDA device: transformers' logits and losses of the tied model, moved by one id as the head is.</summary>
public sealed class OutputHeadTests
{
    private const int Rows = 6;

    [Theory]
    [InlineData("base")]
    [InlineData("bf16")]
    public void A_head_moved_by_one_id_moves_transformers_logits_by_one(string name)
    {
        using var folder = new TempFolder();
        string source = Fixtures.Path("gemma2", "models", name);
        StoredTensors.CopyModel(source, folder.At("m"), t =>
        {
            StoredTensor e = t["model.embed_tokens.weight"];
            int row = e.Bytes.Length / (int)e.Shape[0];
            t["lm_head.weight"] = e with { Bytes = [.. e.Bytes[^row..], .. e.Bytes[..^row]] };
            return t;
        });
        int[] tokens = Fixtures.Tokens(Path.Combine(source, "tokens.json"))[..Rows];
        using var golden = new NpzArrays(Path.Combine(source, "expected.npz"));
        using CudaDevice device = TestGpu.Open();
        using Gemma2Model model = Gemma2Model.Open(device, folder.At("m"));
        int vocabulary = model.Config.VocabSize;
        float[] tied = golden.Floats("logits")[..(Rows * vocabulary)], moved = new float[tied.Length];
        for (int i = 0; i < tied.Length; i++)
            moved[i - (i % vocabulary) + ((i + 1) % vocabulary)] = tied[i];
        using Session session = model.NewSession(chunkLength: Rows);
        Mat logits = model.Forward(tokens, session, LogitRows.All);
        float[] actual = new float[tied.Length];
        device.Read(logits, actual);
        Assert.True(Compare.Relative(actual, moved) <= 1e-4, "logits");

        double[] losses = new double[Rows - 1];
        model.NextTokenLoss(tokens.AsSpan(1), session, losses);
        for (int t = 0; t < losses.Length; t++)
        {
            float[] row = moved[(t * vocabulary)..((t + 1) * vocabulary)];
            double max = row.Max();
            Assert.Equal(max + Math.Log(row.Sum(l => Math.Exp(l - max))) - row[tokens[t + 1]], losses[t], 1e-3);
        }
    }
}
