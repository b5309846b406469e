namespace KernelScope.Training.Suites;

/// <summary>Where the files of a suite are, and who works at which.</summary>
/// <param name="path">The suite's folder.</param>
internal sealed class SuiteFolder(string path)
{
    /// <summary>The folder.</summary>
    public string Path { get; } = path;

    /// <summary>Where one item is trained.</summary>
    public string Item(SuiteItem item) => System.IO.Path.Combine(Path, "items", item.Name);

    /// <summary>What was measured of it: its presence says that it is done.</summary>
    public string Result(SuiteItem item) => System.IO.Path.Combine(Item(item), "result.json");

    /// <summary>Why it cannot be trained.</summary>
    public string Failure(SuiteItem item) => System.IO.Path.Combine(Item(item), "failed.json");

    /// <summary>The scale that a pilot found.</summary>
    public string Pilot(SuiteItem item) => System.IO.Path.Combine(Path, "pilots", item.PilotName, "pilot.json");

    /// <summary>
    /// Takes a name for this process until it is disposed or the process ends, however it ends; null where another worker has it. Two
    /// trainers in one folder would spoil each other's checkpoints.
    /// </summary>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public FileStream? TryLock(string name)
    {
        string locks = System.IO.Path.Combine(Path, "locks");
        OutputPlace.CreateFolder(locks);
        try
        {
            return new FileStream(System.IO.Path.Combine(locks, name), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e) when (IsTaken(e.HResult))
        {
            return null;
        }
    }

    /// <summary>EAGAIN of Linux and of macOS, and a sharing violation of Windows; a full disk, say, is another matter.</summary>
    private static bool IsTaken(int error) => error is 11 or 35 or unchecked((int)0x80070020);
}
