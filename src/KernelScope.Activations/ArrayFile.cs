namespace KernelScope.Files;

/// <summary>Opens stored arrays in any of the forms that are read: npz, npy, safetensors. The content decides, not the name.</summary>
/// <remarks>Any number of threads may call it.</remarks>
/// <example>
/// <code>
/// using TensorFile file = ArrayFile.Open("activations.npz");
/// TensorView rows = file["resid_post.20"];
/// Console.WriteLine($"{rows.Info.DType} [{string.Join(", ", rows.Shape.ToArray())}]");
/// </code>
/// </example>
public static class ArrayFile
{
    /// <summary>Opens a file and checks its headers.</summary>
    /// <exception cref="InvalidDataException">It cannot be read, is malformed, or is none of these.</exception>
    public static TensorFile Open(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        RawFile file = RawFile.Open(path);
        Span<byte> start = stackalloc byte[9];
        try
        {
            start = start[..(int)Math.Min(start.Length, file.Length)];
            file.Read(0, start);
        }
        catch
        {
            file.Dispose();
            throw;
        }

        bool Ends(string extension) => path.EndsWith(extension, StringComparison.OrdinalIgnoreCase);
        if ((start.Length > 5 && start[0] == 0x93 && start[1..6].SequenceEqual("NUMPY"u8)) || Ends(".npy"))
            return NpyFile.Parse(file);
        // A file that says what it should be is held to it: the sentence then says what is wrong with it.
        if (start.StartsWith("PK"u8) || Ends(".npz"))
            return NpzFile.Parse(file);
        if ((start.Length == 9 && start[8] == (byte)'{') || Ends(".safetensors"))
            return SafetensorsFile.Parse(file);
        file.Dispose();
        throw BadFile.At(path, "this is neither an .npz, an .npy nor a .safetensors file.");
    }

    /// <summary>Reads a file's checksums where it has some and is not so large that it would take longer than the work.</summary>
    /// <exception cref="InvalidDataException">An array is damaged.</exception>
    internal static void VerifyIfSmall(this TensorFile file, long limit, CancellationToken cancellationToken)
    {
        if (file is NpzFile npz && npz.Length <= limit)
            npz.Verify(cancellationToken);
    }
}
