using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Tests.Files;

namespace KernelScope.Tests.Lens;

/// <summary>A difference that was planted must be found, at its place; what only looks different must not.</summary>
public sealed class DiffTests : IDisposable
{
    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_first_planted_difference_is_found_in_the_order_in_which_points_fire()
    {
        float[] early = Values(12 * 8, 1), late = Values(12 * 8, 2), z = Values(12 * 6, 3);
        string a = Write("a.npz", ("logits", early, [12, 8]), ("resid_post.2", late, [12, 8]),
            ("z.2", z, [12, 6]), ("tokens", early[..12], [12]), ("z.10", z, [12, 6]));
        // Planted in reverse: the file's order must not decide, nor 10 come before 2.
        string b = Write("b.npz", ("z.10", Changed(z, 0), [12, 6]), ("logits", Changed(early, 0), [12, 8]),
            ("resid_post.2", Changed(late, 0), [12, 8]), ("z.2", Changed(Changed(z, 40), 27), [12, 6]), ("tokens", early[..12], [12]));
        var diff = ActivationDiff.Of(a, b);
        Assert.Equal(["tokens", "z.2", "resid_post.2", "z.10", "logits"], diff.Arrays.Select(d => d.A.Name));
        Assert.Equal([false, true, true, true, true], diff.Arrays.Select(d => d.Parts));
        ArrayDiff first = diff.FirstParting!;
        Assert.Equal(("z.2", 4, 3), (first.A.Name, first.First!.Value.Position, first.First.Value.Element));
        Assert.Equal((z[27], z[27] + 1f), ((float)first.First.Value.A, (float)first.First.Value.B));
        double square = z.Sum(v => (double)v * v);
        Assert.Equal(2 / square, first.Nmse, 1e-6);
        Assert.Equal(1, first.MaxDifference, 1e-6);
        Assert.Equal(z.Max(Math.Abs), first.Largest, 1e-9);
    }

    [Theory]
    [InlineData(0.99e-4, false)]
    [InlineData(1.01e-4, true)]
    public void The_tolerance_is_a_share_of_the_largest_value(double share, bool parts)
    {
        float[] values = new float[300_000];
        values[7] = -1000;
        string a = Write("a.npz", ("embed", values, [100, 3000]));
        values[299_999] = (float)(1000 * share);
        string b = Write("b.npz", ("embed", values, [100, 3000]));
        ArrayDiff diff = Assert.Single(ActivationDiff.Of(a, b).Arrays);
        Assert.Equal(parts, diff.Parts);
        Assert.Equal(1000 * share, diff.MaxDifference, 1e-6);
        if (parts)
            Assert.Equal((99, 2999), (diff.First!.Value.Position, diff.First.Value.Element));
        Assert.Null(Assert.Single(ActivationDiff.Of(a, b, tolerance: 0.01).Arrays).First);
    }

    [Fact]
    public void Another_programs_names_and_shapes_are_seen_through()
    {
        float[] stream = Values(5 * 12, 1), z = Values(5 * 6, 2), one = Values(4, 3);
        string a = Write("a.npz", ("resid_post.3", stream, [5, 12]), ("z.0", z, [5, 6]), ("final_norm", one, [1, 4]));
        string b = Write("b.npz", ("blocks.3.hook_resid_post", Changed(stream, 25), [1, 5, 12]), ("blocks.0.attn.hook_z", z, [1, 5, 2, 3]),
            ("final_norm", Changed(one, 2), [1, 1, 4]), ("extra", one, [4]));
        var diff = ActivationDiff.Of(a, b);
        Assert.Equal(["z.0", "resid_post.3", "final_norm"], diff.Arrays.Select(d => d.A.Name));
        Assert.All(diff.Arrays, d => Assert.Contains("shapes", d.Note!, StringComparison.Ordinal));
        Assert.False(diff.Arrays[0].Parts);
        Assert.Equal((2, 1), (diff.Arrays[1].First!.Value.Position, diff.Arrays[1].First!.Value.Element));
        Assert.Equal((0, 2), (diff.Arrays[2].First!.Value.Position, diff.Arrays[2].First!.Value.Element));
        Assert.Equal((0, 1), (diff.OnlyInA.Count, diff.OnlyInB.Count));
        Assert.Equal(["extra"], diff.OnlyInB);
    }

    [Fact]
    public void Shapes_that_cannot_be_paired_are_said_and_count_as_parting()
    {
        float[] values = Values(24, 1);
        ArrayDiff diff =
            Assert.Single(ActivationDiff.Of(Write("a.npz", ("q.1", values, [4, 6])), Write("b.npz", ("q.1", values, [6, 4]))).Arrays);
        Assert.True(diff is { Compared: false, Parts: true, First: null });
        Assert.Contains("[4, 6] and [6, 4]", diff.Note!, StringComparison.Ordinal);
        Assert.True(Assert.Single(ActivationDiff.Of(Write("a.npz", ("q.1", values, [4, 6])), Write("b.npz", ("q.1", values[..18], [3, 6])))
            .Arrays).Parts);
    }

    [Fact]
    public void What_is_no_number_parts_where_it_is_one_on_the_other_side_only()
    {
        float[] values = [1, float.NaN, float.PositiveInfinity, 4], other = [1, float.NaN, float.PositiveInfinity, float.NaN];
        Assert.False(
            Assert.Single(ActivationDiff.Of(Write("a.npz", ("embed", values, [2, 2])), Write("b.npz", ("embed", values, [2, 2]))).Arrays)
            .Parts);
        ArrayDiff diff =
            Assert.Single(ActivationDiff.Of(Write("a.npz", ("embed", values, [2, 2])), Write("b.npz", ("embed", other, [2, 2]))).Arrays);
        Assert.Equal((1, 1), (diff.First!.Value.Position, diff.First.Value.Element));
        Assert.Equal(double.PositiveInfinity, diff.MaxDifference);
    }

    [Fact]
    public void Types_are_seen_through_and_said()
    {
        string a = _folder.At("a.npz"), b = _folder.At("b.npz");
        using (var writer = new NpzWriter(a))
        {
            writer.Add<int>("tokens", [2, 5, 70_000], 3);
            writer.Commit();
        }

        using (var writer = new NpzWriter(b))
        {
            writer.Add<long>("tokens", [2, 5, 70_001], 3);
            writer.Commit();
        }

        ArrayDiff diff = Assert.Single(ActivationDiff.Of(a, b, 1e-9).Arrays);
        Assert.Contains("I32 and I64", diff.Note!, StringComparison.Ordinal);
        Assert.Equal(
            (2, 0, 70_000, 70_001), (diff.First!.Value.Position, diff.First.Value.Element, diff.First.Value.A, diff.First.Value.B));
    }

    [Fact]
    public void One_hook_point_under_two_names_counts_once_where_the_bits_are_equal()
    {
        string[] names = ["resid_post.3", "blocks.3.hook_resid_post", "blocks.3.hook_out"];
        string one = Write("one.npz", ("resid_post.3", [1, 2], [2, 1]));
        foreach (string first in names)
        {
            foreach (string second in names.Where(n => n != first))
            {
                string two = Write("two.npz", (first, [1, 2], [1, 2, 1]), (second, [1, 2], [2, 1]), ("z.0", [4], [1]));
                var diff = ActivationDiff.Of(two, one);
                Assert.False(Assert.Single(diff.Arrays).Parts);
                Assert.Equal(["z.0"], diff.OnlyInA);
            }
        }
    }

    [Fact]
    public void One_hook_point_under_two_names_is_refused_by_both_names_where_the_bits_differ()
    {
        string a = Write("a.npz", ("resid_post.3", [1, 2], [2]), ("blocks.3.hook_out", [1, 2.5f], [2]));
        string message = Assert.Throws<InvalidDataException>(() => ActivationDiff.Of(a, a)).Message;
        Assert.Contains("same hook point", message, StringComparison.Ordinal);
        Assert.Contains("'resid_post.3' and 'blocks.3.hook_out'", message, StringComparison.Ordinal);
    }

    private static float[] Values(int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() * 4) - 2))];
    }

    private static float[] Changed(float[] values, int at) => [.. values.Select((v, i) => i == at ? v + 1f : v)];

    private string Write(string name, params (string Name, float[] Values, long[] Shape)[] arrays)
    {
        string path = _folder.At(name);
        using var writer = new NpzWriter(path);
        foreach ((string array, float[] values, long[] shape) in arrays)
            writer.Add<float>(array, values, shape);
        writer.Commit();
        return path;
    }
}
