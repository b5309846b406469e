using KernelScope.Files;

namespace KernelScope.Hooks;

/// <summary>The arrays of a capture by what they are: a hook point's own name, whichever of its names the file uses, else the array's name.</summary>
/// <remarks>TransformerLens stores a tensor under each of its names. Equal bits under two names are one hook point.</remarks>
internal static class CapturedArrays
{
    /// <summary>What <c>run --out</c> calls the tokens of a capture.</summary>
    public const string Tokens = "tokens";

    /// <summary>The arrays by key.</summary>
    /// <exception cref="InvalidDataException">Two arrays are the same hook point and differ.</exception>
    public static Dictionary<string, TensorInfo> Read(TensorFile file)
    {
        var contents = new Dictionary<string, TensorInfo>(StringComparer.Ordinal);
        foreach (TensorInfo info in file.Contents)
        {
            string key = KeyOf(info.Name);
            if (!contents.TryAdd(key, info) && !SameValues(file[contents[key].Name], file[info.Name]))
                throw BadFile.At(file.Path, $"{BadFile.Quote(contents[key].Name)} and {BadFile.Quote(info.Name)} are the same hook point " +
                    "and differ; there is no way to know which is meant.");
        }

        return contents;
    }

    /// <summary>The key of a name: <c>resid_post.3</c> of <c>blocks.3.hook_resid_post</c>.</summary>
    public static string KeyOf(string name) => HookPoint.TryParse(name, out HookPoint point) ? point.ToString() : name;

    /// <summary>Whether the file is a .npy whose name says of no hook point what its array is.</summary>
    public static bool IsUnnamed(TensorFile file) => file is NpyFile npy && !HookPoint.TryParse(npy.Info.Name, out _);

    /// <summary>The same type, and the same bits in row-major order; a batch dimension of 1 and heads laid out apart make no difference.</summary>
    private static bool SameValues(in TensorView a, in TensorView b)
    {
        if (a.DType != b.DType || a.ElementCount != b.ElementCount)
            return false;
        if (!a.ColumnMajor && !b.ColumnMajor)
            return a.SameBits(b);
        if (!a.DType.IsFloat())
            return a.ToInt64s().AsSpan().SequenceEqual(b.ToInt64s());
        return a.ToFloats().AsSpan().SequenceEqual(b.ToFloats());
    }
}
