// Parts of Monaco that are imported for what they do; they have no types of their own.
declare module 'monaco-editor/esm/vs/*';
declare module '*.css';
